"""ROUGE-1, ROUGE-2 and ROUGE-L of summaries (Lin 2004): what a summary shares with a reference, as F1.

n     matched n-grams, each no more often than in the other text; precision over the summary's, recall over the reference's
L     the longest common subsequence of words, in place of n-grams

The value is the mean over examples. Tokens are lower-cased words; any letter of any script makes one, so that Spanish
words stay whole (Google's ``rouge_score`` splits them at accents; on plain English the two agree).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vocablo.measures.measurement import Measurement, check_pairs, mean


def words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits."""
    return re.findall(r"[^\W_]+", text.lower())


def rouge(gold: Sequence[str], predicted: Sequence[str]) -> tuple[Measurement, ...]:
    """ROUGE-1, -2 and -L, F1 as shares of one, of summaries with one reference each."""
    check_pairs(gold, predicted, "references")
    pairs = [(words(reference), words(summary)) for reference, summary in zip(gold, predicted, strict=True)]
    columns = {
        "rouge-1": [_of_grams(*pair, 1) for pair in pairs],
        "rouge-2": [_of_grams(*pair, 2) for pair in pairs],
        "rouge-l": [_f1(longest(*pair), len(pair[0]), len(pair[1])) for pair in pairs],
    }
    return tuple(
        Measurement(name, np.array(values)[:, None], mean, unit="summaries") for name, values in columns.items()
    )


def longest(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = np.zeros(len(other) + 1, dtype=np.int64)
    index = np.array([hash(word) for word in other], dtype=np.int64)
    for word in one:
        grown = np.where(index == hash(word), row[:-1] + 1, row[1:])
        row[1:] = np.maximum.accumulate(grown)
    return int(row[-1])


def _of_grams(reference: list[str], summary: list[str], n: int) -> float:
    there, found = _grams(reference, n), _grams(summary, n)
    return _f1(sum((there & found).values()), sum(there.values()), sum(found.values()))


def _grams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


def _f1(shared: int, reference: int, summary: int) -> float:
    return 2 * shared / (reference + summary) if shared else 0.0
