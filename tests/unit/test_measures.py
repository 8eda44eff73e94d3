"""Units of likelihood, and intervals against tables and closed forms."""

import math

import numpy as np
import pytest

from vocablo.base.errors import DataError
from vocablo.measures.intervals import bootstrap_interval, student_interval, student_quantile
from vocablo.measures.likelihood import Likelihood, perplexity_of


def test_a_uniform_guess_has_the_perplexity_of_its_choices():
    one = Likelihood(log_prob=-6 * math.log(8), tokens=6, words=3, bytes=18)
    assert one.perplexity == pytest.approx(8)
    assert one.word_perplexity == pytest.approx(64)
    assert one.bits_per_byte == pytest.approx(1)  # 6 tokens of 3 bits over 18 bytes


def test_likelihoods_add_up_to_that_of_all_texts():
    first = Likelihood(-10.0, 5, 4, 20, policy="boundary")
    second = Likelihood(-2.5, 3, 2, 7, policy="boundary")
    both = first + second
    assert (both.log_prob, both.tokens, both.words, both.bytes) == (-12.5, 8, 6, 27)
    assert both.perplexity == pytest.approx(math.exp(12.5 / 8))
    assert both.policy == "boundary"
    assert first + Likelihood() == first


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"unknown": 1}, False), ({"exact": False}, False)])
def test_bits_per_byte_only_where_the_probability_is_one_of_the_text(changes, known):
    one = Likelihood(-4.0, 3, 2, 11, **changes)
    assert (one.bits_per_byte is not None) == known
    assert ((one + Likelihood(-1.0, 1, 1, 4)).bits_per_byte is not None) == known


def test_nothing_counted_and_nothing_possible():
    assert math.isnan(perplexity_of(0.0, 0))
    assert math.isnan(Likelihood().perplexity)
    assert Likelihood().bits_per_byte is None
    assert perplexity_of(-math.inf, 3) == math.inf
    assert perplexity_of(-1e6, 1) == math.inf


TABLE = [  # share below, degrees of freedom, t: as printed in statistical tables
    (0.975, 1, 12.706),
    (0.975, 2, 4.303),
    (0.975, 4, 2.776),
    (0.975, 9, 2.262),
    (0.975, 29, 2.045),
    (0.975, 120, 1.980),
    (0.95, 5, 2.015),
    (0.99, 10, 2.764),
    (0.995, 3, 5.841),
    (0.9995, 6, 5.959),
    (0.975, 500, 1.965),
    (0.975, 100000, 1.960),
]


@pytest.mark.parametrize(("share", "freedom", "expected"), TABLE)
def test_student_quantiles_are_those_of_the_tables(share, freedom, expected):
    assert student_quantile(share, freedom) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("share", [0.6, 0.9, 0.975, 0.999])
def test_student_quantiles_of_one_and_two_degrees_have_closed_forms(share):
    assert student_quantile(share, 1) == pytest.approx(math.tan(math.pi * (share - 0.5)), rel=1e-6)
    expected = (2 * share - 1) * math.sqrt(2 / (4 * share * (1 - share)))
    assert student_quantile(share, 2) == pytest.approx(expected, rel=1e-6)


def test_the_normal_correction_joins_the_exact_quantile():
    assert student_quantile(0.975, 201) == pytest.approx(student_quantile(0.975, 200), abs=2e-4)


def test_the_student_interval_of_a_worked_example():
    """1, 2, 3, 4, 5: mean 3, s = sqrt(2.5), t(4) = 2.776, so 3 +- 1.963."""
    interval = student_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.high - 3 == pytest.approx(1.963, abs=5e-4) == 3 - interval.low
    assert (interval.count, interval.level) == (5, 0.95)


def test_the_student_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for level in (0.5, 0.95):
        intervals = [student_interval(rng.normal(7, 3, size=4), level) for _ in range(2000)]
        covered = np.mean([one.low <= 7 <= one.high for one in intervals])
        assert covered == pytest.approx(level, abs=0.035)  # 3 standard errors at 0.5


def test_the_bootstrap_interval_is_nearly_normal_for_many_values():
    values = np.random.default_rng(1).exponential(2.0, size=400)
    interval = bootstrap_interval(values)
    reach = 1.96 * values.std() / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - reach, abs=0.15 * reach)
    assert interval.high == pytest.approx(values.mean() + reach, abs=0.15 * reach)
    assert interval == bootstrap_interval(values)
    assert interval != bootstrap_interval(values, seed=1)


@pytest.mark.parametrize("make", [student_interval, bootstrap_interval])
def test_intervals_refuse_what_they_can_not_say(make):
    with pytest.raises(DataError, match="two values"):
        make([1.0])
    with pytest.raises(DataError, match="level"):
        make([1.0, 2.0], 95)
