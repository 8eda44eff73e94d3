"""Fine-tuning whole, from files to a folder: results, several runs, what is resumed, and what is refused before work starts."""

import csv
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from task_examples import texts
from task_models import learner
from tiny_models import bert, wordpieces
from vocablo import checkpoint
from vocablo.api import finetune, load
from vocablo.base.errors import ConfigError, DataError, TrainingError
from vocablo.tasks import classify
from vocablo.training.measuring import Measure

FAST = (
    "train.epochs=2",
    "train.batch=8",
    "train.lr=1e-3",
    "architecture.stack.width=16",
    "architecture.attention.heads=2",
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table(path, examples, header=("text", "label"), encoding="utf-8", end="\n"):
    with path.open("w", encoding=encoding, newline="") as file:
        rows = csv.writer(file, lineterminator=end)
        rows.writerow(header)
        rows.writerows((one.text, one.label) for one in examples)
    return path


@pytest.fixture
def train(tmp_path):
    return table(tmp_path / "train.csv", texts(40))


def learn(train, out, *more, **given):
    return finetune("classify", model="bert:tiny", train=train, out=out, overrides=(*FAST, *more), quiet=True, **given)


def test_the_folder_is_what_was_measured(train, tmp_path):
    dev = table(tmp_path / "dev.csv", texts(12))
    result = learn(train, tmp_path / "m", dev=dev)
    asked = load(tmp_path / "m")
    found = asked.predict_file(dev, tmp_path / "out.csv")
    right = sum(one.label == example.label for one, example in zip(found, texts(12), strict=True)) / 12
    assert right == result.value == result.scores[0].value
    assert result.measure == "accuracy"
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,label,prob"
    assert len(lines) == 13
    assert not (tmp_path / "m" / "run" / "steps").exists()


def test_several_seeds_have_a_mean_and_the_best_is_published(train, tmp_path):
    result = learn(train, tmp_path / "m", seeds=3)
    assert [one.seed for one in result.runs] == [0, 1, 2]
    values = torch.tensor([one.measures["accuracy"] for one in result.runs])
    assert result.value == pytest.approx(float(values.mean()))
    assert result.deviation == pytest.approx(float(values.std()))
    best = result.runs[int(values.argmax())].out
    ours, theirs = (load_file(f"{folder}/model.safetensors") for folder in (tmp_path / "m", best))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_heads_left_out_and_fresh_ones_are_named_in_one_note(train, tmp_path, capsys):
    tokenizer = wordpieces()
    heads = {"next_sentence": torch.nn.Linear(16, 2)}
    checkpoint.save(tmp_path / "bert", bert(tokenizer.size, 64, pooler=True), tokenizer, heads)

    def notes(out, model, **more):
        capsys.readouterr()
        finetune("classify", model=model, train=train, out=out, seeds=2, overrides=FAST[:3], quiet=False, **more)
        return [line for line in capsys.readouterr().err.splitlines() if "heads of" in line]

    (line,) = notes(tmp_path / "m", tmp_path / "bert")
    assert line.endswith("left out: next_sentence, output layer; not in it and therefore fresh: classify")
    assert notes(tmp_path / "again", tmp_path / "m") == []
    (line,) = notes(tmp_path / "fresh", tmp_path / "m", fresh_head=True)
    assert line.endswith("/m, not in it and therefore fresh: classify")


def test_berts_grid_has_18_runs(train, tmp_path, monkeypatch):
    from vocablo.training import finetune_recipe

    monkeypatch.setitem(finetune_recipe.GRIDS, "small", {"batch": (8, 16), "lr": (1e-3,), "epochs": (1, 2)})
    assert len(list(finetune_recipe.grid("bert"))) == 18
    result = learn(train, tmp_path / "m", grid="small")
    assert [(one.batch, one.epochs) for one in result.runs] == [(8, 1), (8, 2), (16, 1), (16, 2)]
    assert (tmp_path / "m" / "batch-8-lr-0.001-epochs-1" / "config.json").exists()


def test_a_killed_run_ends_with_the_same_bits(train, tmp_path, monkeypatch):
    straight = learn(train, tmp_path / "a", "train.epochs=3")
    seen = Measure.__call__

    class Killed(BaseException):
        pass

    def killed(self, step):
        seen(self, step)
        if step.step == 12:
            raise Killed

    monkeypatch.setattr(Measure, "__call__", killed)
    with pytest.raises(Killed):
        learn(train, tmp_path / "b", "train.epochs=3")
    monkeypatch.setattr(Measure, "__call__", seen)
    with pytest.raises(TrainingError, match="--resume"):
        learn(train, tmp_path / "b", "train.epochs=3")
    resumed = learn(train, tmp_path / "b", "train.epochs=3", resume=True)
    assert resumed.runs[0].measures == straight.runs[0].measures
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert learn(train, tmp_path / "b", "train.epochs=3", resume=True).runs == resumed.runs, "nothing left to do"


def test_frozen_models_learn_their_head_alone(train, tmp_path):
    tokenizer = wordpieces()
    model = bert(tokenizer.size, context=64)
    checkpoint.save(tmp_path / "base", model, tokenizer)
    given = dict(model=tmp_path / "base", train=train, overrides=("train.epochs=1",), quiet=True)
    result = finetune("classify", out=tmp_path / "m", freeze=True, **given)
    assert result.trained == 0
    after = checkpoint.load(tmp_path / "m")
    for name, value in after.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    result = finetune("classify", out=tmp_path / "f", features="last", **given)
    after = checkpoint.load(tmp_path / "f")
    assert set(after.heads) == {"features", "classify"}
    assert load(tmp_path / "f").classify("el gato")[0].label in ("no", "sí", "tal vez")


def test_early_stopping_looks_at_the_measure(train, tmp_path):
    result = learn(train, tmp_path / "m", "train.epochs=30", "train.lr=1e-9", "train.patience=2")
    assert result.runs[0].stopped_by == "patience"
    assert result.runs[0].steps < 30 * 5


def test_a_tenth_of_the_examples(train, tmp_path):
    result = learn(train, tmp_path / "m", fraction=0.25, dry_run=True)
    assert result.plan.steps == 2 * 2, "nine of 36 examples, in batches of 8"


def test_bom_crlf_and_quotes_are_read(tmp_path):
    examples = [(one.text + ', "y"\nmás', one.label) for one in texts(40)]
    path = tmp_path / "train.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([("text", "label"), *examples])
    assert learn(path, tmp_path / "m", dry_run=True).examples == 36


def test_a_folder_with_another_label_set_is_refused_unless_a_fresh_head_is_asked_for(train, tmp_path):
    learn(train, tmp_path / "m")
    other = table(tmp_path / "other.csv", texts(40, labels=("no", "sí")))
    given = dict(model=tmp_path / "m", train=other, overrides=("train.epochs=1",), quiet=True)
    with pytest.raises(DataError, match=r"aren't the model's .*lacks tal vez.*--fresh-head"):
        finetune("classify", out=tmp_path / "n", **given)
    assert finetune("classify", out=tmp_path / "n", fresh_head=True, **given).labels == ("no", "sí")


def test_a_folders_head_goes_on_in_its_own_order_of_labels(train, tmp_path):
    model, task, heads = learner(classify, "bert", texts(12))
    swapped = classify.Task(task.reader, task.settings, ("tal vez", "no", "sí"))
    checkpoint.save(tmp_path / "base", model, task.reader.tokenizer, dict(heads.items()), swapped.told())
    given = dict(model=tmp_path / "base", train=train, out=tmp_path / "m", quiet=True)
    result = finetune("classify", overrides=("train.steps=1", "train.lr=1e-12"), **given)
    assert result.labels == ("tal vez", "no", "sí")
    before, after = (load(tmp_path / name).classify([one.text for one in texts(12)]) for name in ("base", "m"))
    assert [one.label for one in after] == [one.label for one in before]


def test_a_head_of_other_parts_is_refused_unless_a_fresh_one_is_asked_for(train, tmp_path):
    learn(train, tmp_path / "m")
    given = dict(model=tmp_path / "m", train=train, features="last", overrides=("train.steps=1",), quiet=True)
    with pytest.raises(ConfigError, match=r"The head in .*m isn't the one that these settings ask for.*--fresh-head"):
        finetune("classify", out=tmp_path / "n", **given)
    assert finetune("classify", out=tmp_path / "n", fresh_head=True, **given).runs


def test_labels_of_examples_that_lots_hold_out_are_known(tmp_path):
    path = table(tmp_path / "train.csv", [replace(one, label=f"la {one.id}") for one in texts(20)])
    assert len(learn(path, tmp_path / "m", dry_run=True).labels) == 20


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (dict(model="ngram:tiny"), ConfigError, r"ngram is counted .*rnn, gru, lstm"),
        (dict(model="bart:tiny"), ConfigError, r"no family 'bart'"),
        (dict(model="bert:huge"), ConfigError, r"no size 'huge'"),
        (dict(columns={"text": "txt"}), DataError, r"no column 'txt'; did you mean 'text'"),
        (dict(columns={"label": "clase"}), DataError, r"no column 'clase'.* Known: label, text"),
        (dict(grid="gpt"), ConfigError, r"no grid 'gpt'"),
        (dict(features="first"), ConfigError, r"features"),
        (dict(overrides=("task.sevral=true",)), ConfigError, r"several"),
        (dict(overrides=("measure=acuracy",)), ConfigError, r"did you mean 'accuracy'"),
        (dict(overrides=("train.epochs=1", "train.steps=3")), ConfigError, r"only one of"),
    ],
)
def test_what_cant_be_done_is_refused_before_work_starts(train, tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        finetune("classify", **({"model": "bert:tiny", "train": train, "out": tmp_path / "m", "quiet": True} | given))
    assert not (tmp_path / "m").exists()


def test_an_unknown_task_names_those_there_are(train, tmp_path):
    with pytest.raises(ConfigError, match=r"no task 'clasify'; did you mean 'classify'"):
        finetune("clasify", model="bert:tiny", train=train, out=tmp_path / "m")


def test_an_occupied_folder_is_left_alone(train, tmp_path):
    with pytest.raises(TrainingError, match="already holds other files"):
        learn(train, tmp_path)
