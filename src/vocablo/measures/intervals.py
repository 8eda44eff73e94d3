"""How far a mean of few measurements can be trusted: Student's interval, and the bootstrap for what isn't normal.

Student (1908)                      mean +- t(n - 1, level) s / sqrt(n)
percentile bootstrap (Efron 1979)   quantiles of the means (or another statistic) of resamples
Wilson (1927)                       the shares that a count of right answers doesn't contradict
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import DataError
from vocablo.base.random import generator

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of ``count`` values and the interval that covers the true one in a share ``level`` of all repetitions."""

    mean: float
    low: float
    high: float
    level: float
    count: int


def student_interval(values: Sequence[float] | NDArray[np.floating], level: float = 0.95) -> Interval:
    """For independent, roughly normal values, such as the results of several seeds. Raises DataError below two values."""
    data = _checked(values, level)
    mean, deviation = float(data.mean()), float(data.std(ddof=1))
    reach = student_quantile(0.5 + level / 2, len(data) - 1) * deviation / math.sqrt(len(data))
    return Interval(mean, mean - reach, mean + reach, level, len(data))


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.floating], level: float = 0.95, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """For many independent values of any distribution, such as the scores of items. Raises DataError below two values."""
    data = _checked(values, level)
    low, high = resampled_bounds(data, lambda part: float(part.mean()), level, resamples=resamples, seed=seed)
    return Interval(float(data.mean()), low, high, level, len(data))


def resampled_bounds(
    rows: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], float],
    level: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Quantiles of a statistic over resamples of ``rows`` (``[n, ...]``, n >= 1), drawn with replacement.

    Resamples where the statistic isn't defined (a correlation with a constant) are left out; nan when none is left.
    """
    rng = generator(seed, "bootstrap")
    values = np.array([statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(resamples)])
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def wilson_interval(right: int, count: int, level: float = 0.95) -> Interval:
    """For a share of right answers. Unlike the bootstrap's it isn't empty when all are right, or none is.

    Raises DataError for a count of zero.
    """
    if not 0 <= right <= count or count < 1:
        raise DataError(f"A share needs a count of one or more and at most so many right; got {right} of {count}.")
    _check_level(level)
    z, share = NormalDist().inv_cdf(0.5 + level / 2), right / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Interval(share, max(middle - reach, 0.0), min(middle + reach, 1.0), level, count)


def student_quantile(share: float, freedom: int) -> float:
    """The value that a share (over one half) of Student's t distribution with ``freedom`` degrees lies below."""
    if freedom > 200:  # the distribution is nearly normal: Cornish and Fisher's first correction is right to 1e-4
        z = NormalDist().inv_cdf(share)
        return z + (z**3 + z) / (4 * freedom)
    # With t = sqrt(freedom) tan(angle) the density is proportional to cos(angle)^(freedom - 1), smooth and bounded.
    half = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi) / 2

    def below(angle: float) -> float:
        points = (_NODES + 1) * angle / 2
        return 0.5 + float(_WEIGHTS @ np.cos(points) ** (freedom - 1)) * angle / 4 / half

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _checked(values: Sequence[float] | NDArray[np.floating], level: float) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2:
        raise DataError(f"An interval needs a list of two values or more; got an array of shape {data.shape}.")
    _check_level(level)
    return data


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"level is a share between 0 and 1, such as 0.95; got {level}.")
