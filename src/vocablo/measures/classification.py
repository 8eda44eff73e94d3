"""Measures of predicted classes: accuracy, F1, Matthews' correlation; and F1 of sets of labels.

accuracy      share of examples whose label is right
F1            2 tp / (2 tp + fp + fn); binary: of one label; macro: mean over the labels; micro: of the sums over them
Matthews      correlation of two labels' indicators; for more labels Gorodkin's R_K (2004), which it is with two

An F1 or a Matthews' correlation whose denominator is zero is 0. A label that stands neither in the gold labels nor in the
predictions takes no part in a macro mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.measures.measurement import Measurement, Rows, check_pairs, mean

AVERAGES = ("binary", "macro", "micro")
Label = str | int


def accuracy(gold: Sequence[Label], predicted: Sequence[Label]) -> Measurement:
    """The share of right labels."""
    check_pairs(gold, predicted)
    right = [one == other for one, other in zip(gold, predicted, strict=True)]
    return Measurement("accuracy", np.array(right, dtype=np.float64)[:, None], mean, right=True)


def f1(
    gold: Sequence[Label],
    predicted: Sequence[Label],
    *,
    average: str = "binary",
    positive: Label = 1,
    labels: Sequence[Label] | None = None,
) -> Measurement:
    """F1 of one label of each example. ``positive`` is the label that binary F1 is about.

    ``labels`` are all that there are (default: those that occur), which must be given alike for measurements to be paired.
    Raises ConfigError for another average, DataError for a label outside of ``labels``.
    """
    rows, names = _coded(gold, predicted, labels)
    if average == "binary":
        if positive not in names:
            raise DataError(
                f"Binary F1 is of the label {positive!r}, and the labels are {', '.join(map(repr, names))}."
            )
        at = names.index(positive)
        of = lambda table: _f1(table[at, at], table[:, at].sum(), table[at].sum())  # noqa: E731
    elif average == "macro":
        of = lambda table: _macro(np.diag(table), table.sum(0), table.sum(1))  # noqa: E731
    elif average == "micro":
        of = lambda table: float(np.trace(table) / table.sum())  # noqa: E731
    else:
        raise ConfigError(f"There is no average {average!r} of F1{nearest(average, AVERAGES)}")
    return _of_confusion("f1" if average == "binary" else f"{average} f1", rows, names, of)


def matthews(
    gold: Sequence[Label], predicted: Sequence[Label], *, labels: Sequence[Label] | None = None
) -> Measurement:
    """Matthews' correlation coefficient, in [-1, 1], of two labels or more."""
    rows, names = _coded(gold, predicted, labels)
    return _of_confusion("matthews", rows, names, _matthews)


def multilabel_f1(
    gold: Sequence[Collection[str]],
    predicted: Sequence[Collection[str]],
    *,
    average: str = "micro",
    labels: Sequence[str] | None = None,
) -> Measurement:
    """F1 of sets of labels: of all decisions together (micro), or the mean over the labels (macro)."""
    check_pairs(gold, predicted)
    if average not in ("macro", "micro"):
        raise ConfigError(f"There is no average {average!r} of F1 of several labels{nearest(average, AVERAGES[1:])}")
    names = _names([*(label for one in (*gold, *predicted) for label in one)], labels)
    at = {name: index for index, name in enumerate(names)}
    rows = np.zeros((len(gold), 2, len(names)))
    for side, sets in enumerate((gold, predicted)):
        for row, one in enumerate(sets):
            rows[row, side, [at[label] for label in one]] = 1

    def statistic(rows: Rows) -> float:
        both, found, there = (rows[:, 0] * rows[:, 1]).sum(0), rows[:, 1].sum(0), rows[:, 0].sum(0)
        return _f1(both.sum(), found.sum(), there.sum()) if average == "micro" else _macro(both, found, there)

    return Measurement(f"{average} f1", rows, statistic, labels=tuple(map(str, names)))


def _names(occurring: Iterable[Label], labels: Sequence[Label] | None) -> list[Label]:
    found = set(occurring)
    if labels is None:
        return sorted(found, key=lambda label: (str(type(label)), label))
    if stray := sorted(map(str, found - set(labels))):
        raise DataError(f"The label {stray[0]!r} is none of {', '.join(map(str, labels))}.")
    return list(labels)


def _coded(
    gold: Sequence[Label], predicted: Sequence[Label], labels: Sequence[Label] | None
) -> tuple[Rows, list[Label]]:
    """Rows of (gold, predicted) as places in the list of labels, [n, 2]."""
    check_pairs(gold, predicted)
    names = _names([*gold, *predicted], labels)
    at = {name: index for index, name in enumerate(names)}
    return np.array([[at[one] for one in gold], [at[one] for one in predicted]], dtype=np.float64).T.copy(), names


def _of_confusion(
    name: str, rows: Rows, names: Sequence[Label], of: Callable[[NDArray[np.float64]], float]
) -> Measurement:
    """A measure of the confusion matrix [gold, predicted]."""
    size = len(names)

    def statistic(rows: Rows) -> float:
        cells = (rows[:, 0] * size + rows[:, 1]).astype(np.int64)
        return float(of(np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.float64)))

    return Measurement(name, rows, statistic, labels=tuple(map(str, names)))


def _f1(both: float, found: float, there: float) -> float:
    return float(2 * both / (found + there)) if found + there else 0.0


def _macro(both: NDArray[np.float64], found: NDArray[np.float64], there: NDArray[np.float64]) -> float:
    occurs = found + there > 0
    return float((2 * both[occurs] / (found + there)[occurs]).mean()) if occurs.any() else 0.0


def _matthews(table: NDArray[np.float64]) -> float:
    count, right, there, found = table.sum(), np.trace(table), table.sum(1), table.sum(0)
    scale = math.sqrt((count**2 - found @ found) * (count**2 - there @ there))
    return float((right * count - there @ found) / scale) if scale else 0.0
