"""BLEU-4 of a corpus (Papineni et al. 2002): how many of a translation's n-grams a reference has, and whether it is as long.

    BLEU = min(1, e^(1 - r/c)) (p_1 p_2 p_3 p_4)^(1/4)

p_n is the share of the translations' n-grams that stand in their references, each no more often than there; r and c are
the lengths of all references and all translations. A sum over the corpus, without smoothing: 0 where no 4-gram is right.
What the tokens are decides the value; published figures say theirs (``evaluate translation`` gives sacrebleu's signature).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vocablo.measures.measurement import Measurement, Rows, check_pairs

ORDER = 4


def words(text: str) -> list[str]:
    """Words and punctuation marks, each a token; case is kept."""
    return re.findall(r"\w+|[^\w\s]", text)


def bleu(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, name: str = "bleu", smooth: bool = False
) -> Measurement:
    """BLEU of tokenised translations, one reference each, as a share of one. Raises DataError for unequal numbers.

    ``smooth``: where no n-gram of an order is right, half, a quarter, ... of one is (sacrebleu's default, of Chen and Cherry
    2014, method 3).
    """
    check_pairs(gold, predicted, "references")
    rows = [_counts(list(reference), list(translation)) for reference, translation in zip(gold, predicted, strict=True)]
    return Measurement(name, np.array(rows, dtype=np.float64), _smoothed if smooth else _bleu, unit="sentences")


def _counts(reference: list[str], translation: list[str]) -> list[int]:
    """Of each n, the n-grams that are right and all of them; then both lengths."""
    row = []
    for n in range(1, ORDER + 1):
        there, found = _grams(reference, n), _grams(translation, n)
        row += [sum((there & found).values()), sum(found.values())]
    return [*row, len(reference), len(translation)]


def _grams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


def _bleu(rows: Rows) -> float:
    *grams, r, c = rows.sum(0).tolist()
    right, every = grams[0::2], grams[1::2]
    if not c or not all(right):
        return 0.0
    precision = sum(math.log(a / b) for a, b in zip(right, every, strict=True)) / ORDER
    return math.exp(min(0.0, 1 - r / c) + precision)


def _smoothed(rows: Rows) -> float:
    sums = rows.sum(0)
    part = 1.0
    for n in range(ORDER):
        if sums[2 * n + 1] and not sums[2 * n]:
            part /= 2
            sums[2 * n] = part
    return _bleu(sums[None])
