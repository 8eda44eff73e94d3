"""Multiple choice: a softmax over the choices of each question, however many it has."""

import csv

import numpy as np
import pytest
import torch

from task_examples import choices
from task_models import FAMILIES, learner
from vocablo.api import finetune, load
from vocablo.base.errors import ConfigError, DataError
from vocablo.data.examples import ChoiceExample
from vocablo.tasks import choose
from vocablo.tasks._texts import Columns

EXAMPLES = choices(12)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_question_is_its_choices_alone(family):
    model, task, heads = learner(choose, family, EXAMPLES)
    assert {len(one.choices) for one in EXAMPLES} == {2, 3, 4}
    for example, one in zip(EXAMPLES, task.predict(model, heads, EXAMPLES), strict=True):
        (alone,) = task.predict(model, heads, [example])
        assert alone.probs == pytest.approx(one.probs, abs=1e-5)
        assert sum(one.probs) == pytest.approx(1)
        assert len(one.probs) == len(example.choices)
        assert one.prob == max(one.probs) == one.probs[one.choice]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_right_choice(family):
    model, task, heads = learner(choose, family, EXAMPLES)
    encoded = task.encode(EXAMPLES, "here", learn=True)
    with torch.no_grad():
        term = task.terms(model, heads, task.batch(encoded, np.arange(12)[::-1].copy()))["choose"]
    found = task.predict(model, heads, EXAMPLES)
    wanted = -sum(np.log(one.probs[example.label]) for example, one in zip(EXAMPLES, found, strict=True))
    assert float(term.total) == pytest.approx(wanted, rel=1e-4)
    assert term.count == 12
    share = sum(one.choice == example.label for example, one in zip(EXAMPLES, found, strict=True)) / 12
    assert task.measures(EXAMPLES, found)["accuracy"].value == share


def test_the_order_of_choices_makes_no_difference():
    model, task, heads = learner(choose, "bert", EXAMPLES)
    turned = [ChoiceExample(one.id, one.text, one.start, one.choices[::-1]) for one in EXAMPLES]
    pairs = zip(task.predict(model, heads, EXAMPLES), task.predict(model, heads, turned), strict=True)
    for one, other in pairs:
        assert other.probs == pytest.approx(one.probs[::-1], abs=1e-5)


def test_a_sequence_is_the_text_and_its_start_with_a_choice():
    _, task, _ = learner(choose, "gpt", EXAMPLES)
    reader, tokenizer = task.reader, task.reader.tokenizer
    encoded = task.encode([ChoiceExample("0", "el gato", "come", ("pan", "queso"))], "here")
    sequences = np.split(encoded.ids, encoded.starts[1:-1])
    text = tokenizer.encode("el gato").ids
    for ids, choice in zip(sequences, ("pan", "queso"), strict=True):
        wanted = [tokenizer.end_id, *text, tokenizer.sep_id, *tokenizer.encode(f"come {choice}").ids, tokenizer.cls_id]
        assert ids.tolist() == wanted
    assert len(encoded) == 1
    assert reader.reads == "left"


SWAG = [
    (f"La niña abre la caja {i}.", "Dentro", f"hay un gato {i}.", "llueve mucho.", "corre el tren.", "canta.", i % 4)
    for i in range(20)
]
HEADER = ("sent1", "sent2", "ending0", "ending1", "ending2", "ending3", "label")


def write(path, rows, header=HEADER, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    return path


@pytest.mark.parametrize("model", ["bert:tiny", "gpt:tiny"])
def test_from_swags_file_to_its_predictions(tmp_path, model):
    train = write(tmp_path / "train.csv", SWAG)
    small = ("train.epochs=1", "train.batch=8", *(("read.language=0.5",) if model == "gpt:tiny" else ()))
    result = finetune("choose", model=model, train=train, dev=train, out=tmp_path / "m", overrides=small, quiet=True)
    asked = load(tmp_path / "m")
    found = asked.predict_file(train, tmp_path / "p.tsv")
    assert sum(one.choice == row[-1] for one, row in zip(found, SWAG, strict=True)) / 20 == result.value
    assert (tmp_path / "p.tsv").read_text().split("\n")[:2] == ["index\tprediction", f"0\t{found[0].choice}"]
    one = asked.choose(SWAG[0][0], SWAG[0][2:6], start="Dentro")
    assert one.probs == pytest.approx(found[0].probs, abs=1e-6)
    with pytest.raises(ConfigError, match="text and the choices can't be empty"):
        asked.choose("la caja", ["", "pan"])
    with pytest.raises(DataError, match="fewer than two choices"):
        asked.choose("la caja", ["pan"])


def test_other_tables_name_their_columns(tmp_path):
    rows = [(row[0], row[2], row[3], row[6] % 2) for row in SWAG]
    path = write(tmp_path / "t.csv", rows, ("texto", "a", "b", "buena"))
    columns = Columns(text="texto", choices=("a", "b"), label="buena")
    (first, *_) = choose.read(path, columns, choose.Config())
    assert first == ChoiceExample("0", SWAG[0][0], "", (SWAG[0][2], SWAG[0][3]), 0)
    with pytest.raises(DataError, match="no column 'c'"):
        choose.read(path, Columns(text="texto", choices=("a", "c"), label="buena"), choose.Config())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", "", "b", "c", "d", "e", 4), r"the label '4' is none of 0 to 3"),
        (("a", "", "b", "", "d", "e", 1), r"sent1 and the endings can't be empty"),
        (("a", "", "b", "c", "d", "e", "nan"), r"the label 'nan' is none of 0 to 3"),
    ],
)
def test_bad_files_are_refused_before_work_starts(tmp_path, row, message):
    path = write(tmp_path / "t.csv", [*SWAG, row])
    with pytest.raises(DataError, match=rf"t.csv, line 22: .*{message}"):
        finetune("choose", model="bert:tiny", train=path, out=tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


def test_questions_without_labels_cant_be_learnt(tmp_path):
    path = write(tmp_path / "t.csv", [row[:-1] for row in SWAG], HEADER[:-1])
    with pytest.raises(DataError, match="example 0 has no label"):
        finetune("choose", model="bert:tiny", train=path, dev=path, out=tmp_path / "m", quiet=True)
