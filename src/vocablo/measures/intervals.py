"""How sure a mean is."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Student's t, two-sided 95 %, by degrees of freedom; beyond the table the normal value is near enough.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the sample standard deviation (None for a single value)."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def interval95(values: Sequence[float]) -> tuple[float, float] | None:
    """A 95 % confidence interval of the mean by Student's t; None for fewer than two values."""
    mean, deviation = mean_and_deviation(values)
    if deviation is None:
        return None
    freedom = len(values) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.5 / freedom
    half = t * deviation / math.sqrt(len(values))
    return mean - half, mean + half
