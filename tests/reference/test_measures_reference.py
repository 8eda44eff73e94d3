"""Measures against scikit-learn, scipy and seqeval on random cases, and SQuAD's against published figures.

The cases are drawn from fixed seeds and the comparisons are exact to rounding, so nothing here can flake.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from vocablo.measures import classification, correlation, paired, spans
from vocablo.measures.answers import best_threshold, squad
from vocablo.measures.intervals import wilson_interval

metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")
SQUAD = Path(__file__).parents[3] / "shared" / "data" / "squad"


@pytest.mark.parametrize("seed", range(30))
def test_classes(seed):
    rng = np.random.default_rng(seed)
    size, kinds = int(rng.integers(1, 60)), int(rng.integers(2, 7))
    gold = rng.integers(kinds, size=size)
    predicted = np.where(rng.random(size) < rng.random(), gold, rng.integers(kinds + 1, size=size))
    gold, predicted = [f"c{i}" for i in gold], [f"c{i}" for i in predicted]
    near = lambda value: pytest.approx(value, abs=1e-12)  # noqa: E731
    assert classification.accuracy(gold, predicted).value == near(metrics.accuracy_score(gold, predicted))
    for average in ("macro", "micro"):
        expected = metrics.f1_score(gold, predicted, average=average)
        assert classification.f1(gold, predicted, average=average).value == near(expected)
    one = gold[0]
    expected = metrics.f1_score([label == one for label in gold], [label == one for label in predicted])
    assert classification.f1(gold, predicted, positive=one).value == near(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, about a case of one class
        expected = metrics.matthews_corrcoef(gold, predicted)
    assert classification.matthews(gold, predicted).value == near(expected)


@pytest.mark.parametrize("seed", range(20))
def test_sets_of_labels(seed):
    rng = np.random.default_rng(seed)
    size, kinds = int(rng.integers(8, 40)), int(rng.integers(2, 6))
    gold, predicted = rng.random((2, size, kinds)) < 0.4
    assert (gold | predicted).any(0).all()  # scikit-learn would count a label that occurs nowhere
    sets = lambda table: [{f"c{i}" for i in np.flatnonzero(row)} for row in table]  # noqa: E731
    for average in ("macro", "micro"):
        expected = metrics.f1_score(gold, predicted, average=average, zero_division=0)
        ours = classification.multilabel_f1(sets(gold), sets(predicted), average=average).value
        assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_correlations(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(3, 80))
    gold = rng.integers(0, 6, size).astype(float) + rng.choice([0.0, 1e6])  # ties
    predicted = gold + rng.normal(0, 2, size).round(int(rng.integers(0, 3)))
    assert correlation.pearson(gold, predicted).value == pytest.approx(stats.pearsonr(gold, predicted)[0], abs=1e-9)
    assert correlation.spearman(gold, predicted).value == pytest.approx(stats.spearmanr(gold, predicted)[0], abs=1e-9)


TAGS = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER", "S-LOC", "E-PER", "I-X-Y"]


@pytest.mark.parametrize(("mode", "kinds"), [("lenient", "BIESO"), ("lenient", "BIO"), ("strict", "BIO")])
def test_spans_are_those_of_seqeval(mode, kinds):
    seqeval = pytest.importorskip("seqeval.metrics")
    from seqeval.scheme import IOB2

    options = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}
    tags = [tag for tag in TAGS if tag[0] in kinds]
    rng = np.random.default_rng(len(kinds) + len(mode))
    for _ in range(150):
        lengths = rng.integers(1, 12, size=rng.integers(1, 8))
        gold = [list(rng.choice(tags, size=length)) for length in lengths]
        predicted = [[tag if rng.random() < 0.6 else str(rng.choice(tags)) for tag in sentence] for sentence in gold]
        ours = spans.span_f1(gold, predicted, mode)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # seqeval's, about types that nothing was predicted of
            for name, function in (
                ("precision", seqeval.precision_score),
                ("recall", seqeval.recall_score),
                ("f1", seqeval.f1_score),
            ):
                expected = function(gold, predicted, **options)
                assert getattr(ours[""], name).value == pytest.approx(expected, abs=1e-12)
            report = seqeval.classification_report(gold, predicted, output_dict=True, zero_division=0, **options)
        for name, row in report.items():
            if name.endswith(" avg"):
                continue
            assert ours[name].f1.value == pytest.approx(row["f1-score"], abs=1e-12)
            assert ours[name].gold == row["support"]


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (3, 7), (812, 872)])
def test_wilson_against_scipy(right, count):
    expected = stats.binomtest(right, count).proportion_ci(0.9, method="wilson")
    ours = wilson_interval(right, count, 0.9)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_mcnemar_against_scipy(seed):
    rng = np.random.default_rng(seed)
    gold, one, other = rng.integers(2, size=(3, int(rng.integers(5, 400))))
    better, worse = int(((one == gold) & (other != gold)).sum()), int(((one != gold) & (other == gold)).sum())
    ours = paired.mcnemar(classification.accuracy(gold, one), classification.accuracy(gold, other))
    assert ours.p == pytest.approx(stats.binomtest(better, better + worse).pvalue, rel=1e-9)


def test_bootstrap_of_a_correlation_against_scipy():
    """Other draws, so near: the bounds of 2,000 resamples vary by a few hundredths of the interval's width."""
    rng = np.random.default_rng(3)
    gold = rng.normal(size=120)
    predicted = gold + rng.normal(size=120)
    ours = correlation.pearson(gold, predicted).score().interval
    theirs = stats.bootstrap(
        (gold, predicted), lambda a, b: stats.pearsonr(a, b)[0], paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * width)


PUBLISHED = [  # exact match, F1: of the evaluators' owner on these files
    ("1.1", "BERT (ensemble)", 86.2062, 92.1956),
    ("1.1", "r-net+ (ensemble)", 82.4693, 88.4779),
    ("1.1", "SLQA+ (ensemble)", 81.9489, 88.3839),
    ("1.1", "Match-LSTM", 67.6348, 76.7556),
    ("1.1", "Logistic Regression", 40.1419, 50.9815),
    ("2.0", "BERT (single", 78.7417, 81.7753),
    ("2.0", "nlnet (single", 75.8275, 78.7778),
    ("2.0", "BiDAF + Self", 65.7037, 67.8765),
]


@pytest.mark.skipif(not SQUAD.exists(), reason="needs the prediction files of SQuAD's leaderboard")
@pytest.mark.parametrize(("version", "name", "exact", "f1"), PUBLISHED)
def test_leaderboard_predictions_score_as_published(version, name, exact, f1):
    data = json.loads((SQUAD / f"dev-v{version}.reconstructed.json").read_text())["data"]
    folder = SQUAD / "predictions" / {"1.1": "1.1", "2.0": "v2.0"}[version]
    predictions = json.loads(next(folder.glob(f"{name.replace('[', '[[]')}*")).read_text())
    questions = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    gold = [[answer["text"] for answer in qa["answers"]] for qa in questions]
    measured = squad(gold, [predictions.get(qa["id"]) for qa in questions], version=version)
    assert [round(one.value * 100, 4) for one in measured] == [exact, f1]
    assert measured[0].count == {"1.1": 10570, "2.0": 11873}[version]


@pytest.mark.parametrize("seed", range(10))
def test_the_best_threshold_is_that_of_trying_them_all(seed):
    """Without ties: every threshold that tells two questions apart, and one below all."""
    rng = np.random.default_rng(seed)
    gold = [["x"] if rng.random() < 0.5 else [] for _ in range(30)]
    predicted = [str(rng.choice(["x", "y", ""])) for _ in gold]
    no_answer = rng.permutation(30) / 30 + 0.01
    exact, _ = squad(gold, predicted, version="2.0")
    best = best_threshold(exact, [bool(one) for one in gold], [bool(one) for one in predicted], no_answer)
    values = {}
    for threshold in (0.0, *no_answer):
        kept = [given if p <= threshold else "" for given, p in zip(predicted, no_answer, strict=True)]
        values[threshold] = squad(gold, kept, version="2.0")[0].value
    assert best.value == pytest.approx(max(values.values()))
    assert values[best.threshold] == pytest.approx(best.value)
