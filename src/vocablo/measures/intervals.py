"""How far a mean of few measurements can be trusted: Student's interval, and the bootstrap for what isn't normal.

Student (1908)                      mean +- t(n - 1, level) s / sqrt(n)
percentile bootstrap (Efron 1979)   quantiles of the means of resamples
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    rng = generator(seed, "bootstrap")
    means = np.array([data[rng.integers(len(data), size=len(data))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(data.mean()), float(low), float(high), level, len(data))


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
    if not 0 < level < 1:
        raise DataError(f"level is a share between 0 and 1, such as 0.95; got {level}.")
    return data
