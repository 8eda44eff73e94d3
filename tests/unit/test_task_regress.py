"""Regression: the values' scale is learnt apart from the head and folded into it when it is saved."""

import numpy as np
import pytest
import torch

from task_examples import numbers
from task_models import FAMILIES, learner
from vocablo import checkpoint
from vocablo.api import finetune, load
from vocablo.base.errors import DataError
from vocablo.data.examples import TextExample
from vocablo.tasks import regress

EXAMPLES = numbers(12)


def values(predictions):
    return [one.value for one in predictions]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_squared_error_in_deviations(family):
    model, task, heads = learner(regress, family, EXAMPLES)
    encoded = task.encode(EXAMPLES, "here", learn=True)
    with torch.no_grad():
        term = task.terms(model, heads, task.batch(encoded, np.arange(12)))["classify"]
    gold = np.array([one.label for one in EXAMPLES])
    errors = (np.array(values(task.predict(model, heads, EXAMPLES))) - gold) / gold.std()
    assert float(term.total) == pytest.approx(float((errors**2).sum()), rel=1e-4)
    assert term.count == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_values_themselves(family, tmp_path):
    model, task, heads = learner(regress, family, EXAMPLES)
    before = values(task.predict(model, heads, EXAMPLES))
    checkpoint.save(tmp_path / "m", model, task.reader.tokenizer, dict(task.saved(heads)), task.told())
    asked = load(tmp_path / "m")
    after = values(asked.predict([one.text for one in EXAMPLES], [one.pair for one in EXAMPLES]))
    assert after == pytest.approx(before, rel=1e-5)
    assert np.std(before) > 1, "or the test would see nothing"
    assert values(task.predict(model, heads, EXAMPLES)) == before, "saving leaves the heads in training alone"


def test_a_saved_head_goes_on_learning_on_another_scale_with_the_same_predictions():
    model, task, heads = learner(regress, "bert", EXAMPLES)
    before = values(task.predict(model, heads, EXAMPLES))
    saved = task.saved(heads)
    others = [TextExample(one.id, one.text, one.pair, 3 * one.label + 5) for one in EXAMPLES]
    again = regress.Task(task.reader, task.settings, task.labels)
    again.prepare(others, saved, fresh=False)
    assert again.mean == pytest.approx(3 * task.mean + 5)
    assert values(again.predict(model, saved, EXAMPLES)) == pytest.approx(before, rel=1e-5)


def test_measures_are_correlations():
    _, task, _ = learner(regress, "bert", EXAMPLES)
    given = [regress.Estimated(one.id, one.text, one.pair, one.label**3, False) for one in EXAMPLES]
    found = task.measures(EXAMPLES, given)
    assert list(found) == ["spearman", "pearson"]
    assert found["spearman"].value == pytest.approx(1.0)
    assert 0.9 < found["pearson"].value < 0.999


def test_equal_values_and_missing_ones_are_refused():
    same = [TextExample(str(i), "sol", None, 2.0) for i in range(3)]
    with pytest.raises(DataError, match="here has one and the same value everywhere"):
        regress.labels(same, regress.Config(), "here")
    _, task, _ = learner(regress, "bert", EXAMPLES)
    with pytest.raises(DataError, match="dev: example 0 has no number: name the column"):
        task.encode([TextExample("0", "sol", "luna")], "dev", learn=True)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("nan", "a row has nothing in column 'label', the first on line 3"),
        ("", "a row has nothing in column 'label', the first on line 3"),
        ("inf", "line 3: column 'label' should be a finite number"),
        ("mucho", "line 3: column 'label' should be a finite number, is 'mucho'"),
    ],
)
def test_what_is_no_number_is_refused_with_its_line(tmp_path, cell, message):
    (tmp_path / "t.csv").write_text(f"text,label\nsol,1\nluna,{cell}\nmar,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        finetune("regress", model="bert:tiny", train=tmp_path / "t.csv", out=tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


def test_from_a_table_to_a_table(tmp_path):
    rows = [f"{one.text},{one.label}" for one in numbers(30)]
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    small = (
        "architecture.stack.width=16", "architecture.attention.heads=2", "train.steps=40", "train.lr=5e-3",
        "train.batch=8", "train.evaluate_every=40", "train.save_every=40",
    )  # fmt: skip
    result = finetune(
        "regress", model="bert:tiny", train=tmp_path / "t.csv", dev=tmp_path / "t.csv", out=tmp_path / "m",
        overrides=small, quiet=True,
    )  # fmt: skip
    assert result.measure == "spearman"
    found = load(tmp_path / "m").predict_file(tmp_path / "t.csv", tmp_path / "p.jsonl")
    measured = load(tmp_path / "m").task.measures(numbers(30), found)
    assert measured["spearman"].value == result.scores[0].value
    assert measured["pearson"].value == pytest.approx(result.runs[0].measures["pearson"], abs=1e-4)
    assert abs(np.mean(values(found)) - np.mean([one.label for one in numbers(30)])) < 300, "in the values' own unit"
    assert len((tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()) == 30
