"""chrF of a corpus (Popović 2015): the F-score of character n-grams, recall counting twice as much.

    chrF = mean over n of (1 + b^2) P R / (b^2 P + R),   b = 2, n = 1 ... 6

P and R are the mean precision and recall over the orders that both sides have, of counts summed over the corpus; white space
is left out, and so are the n-grams of a text whose reference is too short to have any. These are sacrebleu's rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vocablo.measures.measurement import Measurement, Rows, check_pairs

ORDER, BETA = 6, 2


def chrf(gold: Sequence[str], predicted: Sequence[str]) -> Measurement:
    """chrF2 of texts, one reference each, as a share of one."""
    check_pairs(gold, predicted, "references")
    rows = [_counts(reference, text) for reference, text in zip(gold, predicted, strict=True)]
    return Measurement("chrf", np.array(rows, dtype=np.float64), _chrf, unit="sentences")


def _counts(reference: str, text: str) -> list[int]:
    """Of each order: n-grams of the text, of the reference, and of both."""
    one, other = ("".join(each.split()) for each in (text, reference))
    row = []
    for n in range(1, ORDER + 1):
        found, there = (Counter(each[at : at + n] for at in range(len(each) - n + 1)) for each in (one, other))
        row += [sum(found.values()) if there else 0, sum(there.values()), sum((found & there).values())]
    return row


def _chrf(rows: Rows) -> float:
    sums = rows.sum(0).reshape(ORDER, 3)
    known = sums[(sums[:, 0] > 0) & (sums[:, 1] > 0)]
    if not len(known):
        return 0.0
    precision, recall = (known[:, 2] / known[:, 0]).mean(), (known[:, 2] / known[:, 1]).mean()
    weighed = BETA**2 * precision + recall
    return float((1 + BETA**2) * precision * recall / weighed) if weighed else 0.0
