"""Is one model better than another on the same examples, or was it luck? Tests on pairs of measurements.

paired bootstrap            the examples are drawn anew, both models' rows together; how often does the difference, less the
                            one observed, reach it (Berg-Kirkpatrick et al. 2012)
approximate randomisation   if the models were alike, whose row is whose would be chance: rows are exchanged at random
                            (Noreen 1989)
McNemar (1947)              of the examples that just one model has right, the binomial test that either is as likely; exact

All are two-sided. A p-value is the probability of a difference at least so great if the models were equally good.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.random import generator
from vocablo.measures.intervals import Interval
from vocablo.measures.measurement import Measurement, Rows


@dataclass(frozen=True, slots=True)
class Paired:
    """``difference`` is the first model's value less the second's; ``interval`` is that of the paired bootstrap alone."""

    measure: str
    test: str
    first: float
    second: float
    difference: float
    p: float
    count: int
    interval: Interval | None = None


def paired_bootstrap(
    first: Measurement, second: Measurement, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Paired:
    """The test of any measure, with the interval of the difference."""
    _check(first, second)
    rng, size, of = generator(seed, "paired bootstrap"), first.count, first.statistic

    def once() -> float:
        which = rng.integers(size, size=size)
        return of(first.rows[which]) - of(second.rows[which])

    values, difference = _drawn(once, resamples), first.value - second.value
    reached = np.abs(values - difference) >= abs(difference) - 1e-12
    interval = None
    if len(values):
        low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
        interval = Interval(difference, float(low), float(high), level, size)
    return _result("paired bootstrap", first, second, _share(reached), interval)


def approximate_randomisation(
    first: Measurement, second: Measurement, *, resamples: int = 2000, seed: int = 0
) -> Paired:
    """The test of any measure, exact but for the number of exchanges drawn."""
    _check(first, second)
    rng, of = generator(seed, "approximate randomisation"), first.statistic
    shape = (first.count, *[1] * (first.rows.ndim - 1))

    def once() -> float:
        swap = rng.integers(2, size=shape).astype(bool)
        return of(np.where(swap, second.rows, first.rows)) - of(np.where(swap, first.rows, second.rows))

    values, difference = _drawn(once, resamples), first.value - second.value
    return _result("approximate randomisation", first, second, _share(np.abs(values) >= abs(difference) - 1e-12), None)


def mcnemar(first: Measurement, second: Measurement) -> Paired:
    """The test of accuracy, or of another share of right examples. Raises DataError for other measures."""
    _check(first, second)
    if not first.right:
        raise DataError(f"McNemar's test is of examples that are right or wrong, and {first.name} isn't: use another.")
    better = int((first.rows > second.rows).sum())
    worse = int((first.rows < second.rows).sum())
    tail = sum(math.comb(better + worse, k) for k in range(min(better, worse) + 1))
    return _result("McNemar", first, second, min(1.0, 2 * tail / 2 ** (better + worse)), None)


TESTS: dict[str, Callable[..., Paired]] = {
    "bootstrap": paired_bootstrap,
    "randomisation": approximate_randomisation,
    "mcnemar": lambda first, second, *, seed=0: mcnemar(first, second),
}


def compare(first: Measurement, second: Measurement, test: str = "bootstrap", *, seed: int = 0) -> Paired:
    """One of ``TESTS`` by name."""
    if test not in TESTS:
        raise ConfigError(f"There is no paired test {test!r}{nearest(test, TESTS)}")
    return TESTS[test](first, second, seed=seed)


def _check(first: Measurement, second: Measurement) -> None:
    if (first.name, first.unit, first.labels) != (second.name, second.unit, second.labels):
        raise DataError(
            f"Only the same measure of the same labels can be compared: got {first.name} and {second.name}."
        )
    if first.count != second.count:
        raise DataError(
            f"The two models must be measured on the same {first.unit}: got {first.count:,} and {second.count:,}."
        )


def _drawn(once: Callable[[], float], resamples: int) -> Rows:
    values = np.array([once() for _ in range(resamples)])
    return values[np.isfinite(values)]


def _share(reached: np.ndarray) -> float:
    """The observed difference counts as one more draw (Noreen), so that p is never zero."""
    return float((reached.sum() + 1) / (len(reached) + 1))


def _result(test: str, first: Measurement, second: Measurement, p: float, interval: Interval | None) -> Paired:
    return Paired(first.name, test, first.value, second.value, first.value - second.value, p, first.count, interval)
