"""Correlation of predicted numbers with the true ones: Pearson's r, and Spearman's rho, which is Pearson's r of the ranks.

Equal values share the mean of their ranks. A side that is constant has no correlation: not a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import DataError
from vocablo.measures.measurement import Measurement, Rows, check_pairs

Numbers = Sequence[float] | NDArray[np.floating]


def pearson(gold: Numbers, predicted: Numbers) -> Measurement:
    """Pearson's r. Raises DataError for a value that isn't finite."""
    return Measurement("pearson", _rows(gold, predicted), _pearson)


def spearman(gold: Numbers, predicted: Numbers) -> Measurement:
    """Spearman's rho, ranked anew in every resample. Raises DataError for a value that isn't finite."""
    return Measurement(
        "spearman", _rows(gold, predicted), lambda rows: _pearson(np.stack([_ranks(rows[:, i]) for i in (0, 1)], 1))
    )


def _rows(gold: Numbers, predicted: Numbers) -> Rows:
    check_pairs(gold, predicted)
    rows = np.stack([np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)], axis=1)
    if not np.isfinite(rows).all():
        at, side = np.argwhere(~np.isfinite(rows))[0]
        raise DataError(f"The {('true', 'predicted')[side]} number of example {at} is {rows[at, side]}.")
    return rows


def _pearson(rows: Rows) -> float:
    centred = rows - rows.mean(0)
    norms = np.sqrt((centred**2).sum(0))
    # What is left of a constant when its mean is taken off is rounding.
    if (norms <= 1e-13 * np.sqrt((rows**2).sum(0))).any():
        return math.nan
    one, other = (centred / norms).T
    return max(-1.0, min(1.0, float(one @ other)))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
