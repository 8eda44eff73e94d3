"""Measures of labelled predictions: hand-worked cases, intervals, paired tests, and what they refuse."""

import math

import numpy as np
import pytest

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.results import as_json
from vocablo.measures import classification, correlation, paired, spans
from vocablo.measures.answers import normalize, squad


def test_a_score_is_a_record_with_count_and_interval():
    score = classification.accuracy([1, 0, 1, 1], [1, 1, 1, 1]).score()
    assert (score.name, score.value, score.count, score.unit) == ("accuracy", 0.75, 4, "examples")
    assert score.interval.low < 0.75 < score.interval.high
    assert set(as_json(score)) == {"name", "value", "count", "unit", "interval"}
    with pytest.raises(AttributeError):
        score.value = 1.0
    assert classification.accuracy([1], [1]).score().interval is None


def test_hand_worked_classes():
    gold, predicted = ["a", "a", "b", "b", "c"], ["a", "b", "b", "b", "a"]
    assert classification.f1(gold, predicted, positive="b").value == pytest.approx(0.8)  # 2 of 3 found, 2 of 2
    assert classification.f1(gold, predicted, average="macro").value == pytest.approx((0.5 + 0.8 + 0) / 3)
    assert classification.f1(gold, predicted, average="micro").value == pytest.approx(0.6)
    two = classification.matthews([1, 1, 1, 0, 0], [1, 1, 0, 0, 1]).value
    assert two == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))
    assert classification.matthews([1, 1, 0], [1, 1, 1]).value == 0.0


def test_the_right_labels_are_asked_for():
    with pytest.raises(DataError, match="label 1, and the labels are '0', '1'"):
        classification.f1(["0", "1"], ["0", "1"])
    with pytest.raises(DataError, match="'d' is none of a, b"):
        classification.matthews(["a", "b"], ["a", "d"], labels=["a", "b"])
    with pytest.raises(ConfigError, match="did you mean 'macro'"):
        classification.f1([1], [1], average="makro")
    with pytest.raises(DataError, match="3 examples and 2 predictions"):
        classification.accuracy([1, 0, 1], [1, 0])
    with pytest.raises(DataError, match="no examples"):
        classification.accuracy([], [])


def test_correlation_with_a_constant_is_not_a_number():
    measured = correlation.pearson([1.0, 2.0, 3.0], [0.1, 0.1, 0.1])
    assert math.isnan(measured.value)
    assert measured.score().interval is None
    assert as_json(measured.score())["value"] is None
    with pytest.raises(DataError, match="predicted number of example 1 is nan"):
        correlation.spearman([1.0, 2.0], [1.0, math.nan])


@pytest.mark.parametrize(
    ("tags", "lenient", "strict"),
    [
        ("B-P I-P O B-L", "0-2P 3-4L", "0-2P 3-4L"),
        ("I-P I-P B-P O", "0-2P 2-3P", "2-3P"),  # IOB1
        ("O I-P O", "1-2P", ""),
        ("B-P I-L I-L", "0-1P 1-3L", "0-1P"),
        ("B-P I-L I-P", "0-1P 1-2L 2-3P", "0-1P"),
        ("B-P E-P S-L B-P I-P E-P", "0-2P 2-3L 3-6P", None),  # IOBES
        ("B-P L-P U-L", "0-2P 2-3L", None),  # BILOU
    ],
)
def test_spans(tags, lenient, strict):
    write = lambda found: " ".join(f"{one.start}-{one.end}{one.type}" for one in found)  # noqa: E731
    assert write(spans.spans(tags.split())) == lenient
    if strict is not None:
        assert write(spans.spans(tags.split(), "strict")) == strict


def test_span_f1_by_type_and_together():
    gold = [["B-P", "I-P", "O", "B-L"], ["B-L", "O"]]
    predicted = [["B-P", "I-P", "O", "O"], ["B-P", "O"]]
    result = spans.span_f1(gold, predicted)
    assert list(result) == ["", "L", "P"]
    assert (result[""].gold, result[""].predicted, result[""].right) == (3, 2, 1)
    assert result[""].f1.value == pytest.approx(0.4)
    assert (result["P"].precision.value, result["P"].recall.value) == (0.5, 1.0)
    assert result["L"].f1.value == 0
    assert result[""].f1.count == 2
    assert spans.tag_accuracy(gold, predicted).value == pytest.approx(4 / 6)


@pytest.mark.parametrize("tag", ["LOC", "B", "X-LOC", "B-", "", "o"])
def test_tags_that_are_none(tag):
    with pytest.raises(DataError, match="isn't a tag of spans"):
        spans.spans(["O", tag])


def test_tags_and_tokens_must_align():
    with pytest.raises(DataError, match="Sentence 2 has 2 tokens and 1 predicted"):
        spans.span_f1([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ConfigError, match="'strict'"):
        spans.spans(["O"], "stric")


def test_normalized_answers():
    assert normalize("The  U.S.-led 'An'  answer") == "usled answer"
    assert normalize("¿Qué?") == "¿qué"  # as SQuAD's evaluator has it
    assert normalize("¿El «Niño»?  ¡Unas olas!", "es") == "niño olas"
    assert normalize("the el", "es") == "the"
    with pytest.raises(ConfigError, match="'es'"):
        normalize("x", "ess")


@pytest.mark.parametrize(
    ("gold", "given", "one", "two"),
    [
        (["the cat sat"], "Cat sat down", (0, 0.8), (0, 0.8)),
        (["cat", "a black cat"], "black cat!", (1, 1), (1, 1)),
        (["the"], "", (1, 0), (1, 1)),  # both empty once normalized
        (["x"], None, (0, 0), (0, 0)),
        ([], "", (0, 0), (1, 1)),
        ([], "something", (0, 0), (0, 0)),
        (["x x y"], "x x x", (0, 2 / 3), (0, 2 / 3)),
    ],
)
def test_answers_in_both_versions(gold, given, one, two):
    for version, expected in (("1.1", one), ("2.0", two)):
        measured = squad([gold], [given], version=version)
        assert tuple(each.value for each in measured) == pytest.approx(expected)


def test_parts_of_a_measurement():
    exact, _ = squad([["a b"], ["c"], []], ["a b", "d", ""], version="2.0")
    assert exact.part([True, True, False]).value == 0.5
    assert exact.part([False, False, True]).score().value == 1.0
    assert exact.part([False] * 3) is None


def models(seed: int, size: int = 200, better: float = 0.0):
    """Right answers of two models that are right with probability 0.7 and 0.7 + better."""
    rng = np.random.default_rng(seed)
    gold = np.ones(size, dtype=int)
    return [classification.accuracy(gold, (rng.random(size) < share).astype(int)) for share in (0.7 + better, 0.7)]


@pytest.mark.parametrize("test", ["bootstrap", "randomisation", "mcnemar"])
def test_paired_tests_find_a_difference_and_no_difference(test):
    far = paired.compare(*models(0, better=0.2), test=test)
    assert far.p < 0.001 if test == "mcnemar" else far.p < 0.002
    assert far.difference == pytest.approx(far.first - far.second)
    one = models(0)[0]
    same = paired.compare(one, one, test=test)
    assert (same.p, same.difference) == (1.0, 0.0)


@pytest.mark.parametrize("test", [paired.paired_bootstrap, paired.approximate_randomisation])
def test_equal_models_are_told_apart_as_often_as_the_level_says(test):
    """200 pairs of equal models: p < 0.1 in 20 +- 4.2 of them. The seeds are fixed, so this can't flake."""
    small = [test(*models(seed, size=150), resamples=200).p < 0.1 for seed in range(200)]
    assert 10 <= sum(small) <= 32


def test_paired_tests_depend_on_the_seed_alone():
    pair = models(3, better=0.05)
    first = paired.paired_bootstrap(*pair, seed=1)
    assert first == paired.paired_bootstrap(*pair, seed=1)
    assert first.interval != paired.paired_bootstrap(*pair, seed=2).interval
    assert first.interval.low < first.difference < first.interval.high


def test_any_measure_can_be_compared():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=80)
    near, far = gold + rng.normal(0, 0.3, 80), gold + rng.normal(0, 2, 80)
    for measure in (correlation.pearson, correlation.spearman):
        assert paired.paired_bootstrap(measure(gold, near), measure(gold, far), resamples=300).p < 0.01
        assert paired.approximate_randomisation(measure(gold, near), measure(gold, far), resamples=300).p < 0.01
    labels = ["a", "b", "c"]
    true = rng.choice(labels, 80)
    one = classification.f1(true, true, average="macro", labels=labels)
    other = classification.f1(true, rng.choice(labels, 80), average="macro", labels=labels)
    assert paired.approximate_randomisation(one, other, resamples=300).p < 0.01


def test_what_paired_tests_refuse():
    one, other = models(0)[0], models(0, size=100)[0]
    with pytest.raises(DataError, match="same examples: got 200 and 100"):
        paired.mcnemar(one, other)
    with pytest.raises(DataError, match="got accuracy and pearson"):
        paired.paired_bootstrap(one, correlation.pearson([1.0, 2], [1.0, 2]))
    number = correlation.pearson([1.0, 2], [1.0, 2])
    with pytest.raises(DataError, match="right or wrong"):
        paired.mcnemar(number, number)
    with pytest.raises(ConfigError, match="'bootstrap'"):
        paired.compare(one, one, test="bootstap")


def test_the_interval_covers_the_true_f1_as_often_as_it_says():
    """Binary F1 of a model whose true precision and recall are 0.8 and 2/3: F1 = 0.727; 300 fixed samples of 200."""
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        gold = rng.random(200) < 0.3
        predicted = np.where(gold, rng.random(200) < 2 / 3, rng.random(200) < 0.05 * 10 / 7)
        interval = classification.f1(gold.astype(int), predicted.astype(int)).score(resamples=200).interval
        covered += interval.low <= 8 / 11 <= interval.high
    assert covered / 300 == pytest.approx(0.95, abs=0.035)
