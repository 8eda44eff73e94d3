"""What every measure of labelled predictions is: rows, one an example, and the statistic of the rows that is its value.

Kept so, a measure can be resampled: its interval is the statistic's over resampled rows, and two models are compared by
resampling, or exchanging, the rows of the same examples (``paired.py``). Values are shares of one, as the formulas give
them; tables print them times 100, as papers do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import DataError
from vocablo.measures.intervals import Interval, resampled_bounds, wilson_interval

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """A measure's value over ``count`` examples (of the kind ``unit`` says), with its interval; None below two examples."""

    name: str
    value: float
    count: int
    unit: str
    interval: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A measure of one model's predictions, before it is summed up.

    ``rows`` [n, C] has what each example contributes, ``statistic`` makes the value of them, of any n >= 1. ``labels`` are
    what the rows' numbers stand for, where they stand for labels. ``right``: the rows are 1 (right) or 0 and the value is
    their mean, so that the interval is Wilson's and McNemar's test applies; else the interval is the bootstrap's.
    """

    name: str
    rows: Rows
    statistic: Callable[[Rows], float]
    unit: str = "examples"
    labels: tuple[str, ...] = ()
    right: bool = False

    @property
    def value(self) -> float:
        """The measure; not a number where it isn't defined."""
        return self.statistic(self.rows)

    @property
    def count(self) -> int:
        return len(self.rows)

    def part(self, which: Sequence[bool] | NDArray[np.bool_]) -> Measurement | None:
        """The same measure of the examples that ``which`` [n] marks; None when it marks none."""
        rows = self.rows[np.asarray(which, dtype=bool)]
        return replace(self, rows=rows) if len(rows) else None

    def score(self, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Score:
        """The value with its interval, as a record."""
        return Score(self.name, self.value, self.count, self.unit, self._interval(level, resamples, seed))

    def _interval(self, level: float, resamples: int, seed: int) -> Interval | None:
        value = self.value
        if self.count < 2 or not math.isfinite(value):
            return None
        if self.right:
            return wilson_interval(round(float(self.rows.sum())), self.count, level)
        low, high = resampled_bounds(self.rows, self.statistic, level, resamples=resamples, seed=seed)
        return Interval(value, low, high, level, self.count) if math.isfinite(low) else None


def mean(rows: Rows) -> float:
    """The statistic of measures that are means over examples; ``rows`` [n, 1]."""
    return float(rows.mean())


def check_pairs(gold: Sized, predicted: Sized, what: str = "examples") -> None:
    """Raise DataError unless there is one prediction for each of one or more examples."""
    if len(gold) != len(predicted):
        raise DataError(f"There are {len(gold):,} {what} and {len(predicted):,} predictions: give one for each.")
    if not len(gold):
        raise DataError(f"There are no {what} to measure.")
