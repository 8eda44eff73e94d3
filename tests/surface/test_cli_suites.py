"""Models on published tests: the command, its JSON and the function say the same; what is absent says so."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import vocablo
from command_line import refused
from command_line import vocablo as run
from vocablo.base.results import as_json

WORDS = ("sol", "luna", "mar", "río", "monte", "nube")
SMALL = ["architecture.stack.width=16", "architecture.attention.heads=2", "train.steps=2", "train.batch=8", "read.context=24"]  # fmt: skip
SAY = [f"{WORDS[i % 6]} {WORDS[(i * i) % 6]}" for i in range(24)]
RTE = [f"{i}\t{one}\t{WORDS[i % 5]}\t{'entailment' if i % 3 else 'not_entailment'}\n" for i, one in enumerate(SAY)]
GLUE = {
    "CoLA/dev.tsv": "".join(f"src\t{i % 2}\t\t{one}\n" for i, one in enumerate(SAY)),
    "CoLA/test.tsv": "index\tsentence\n" + "".join(f"{i}\t{one}\n" for i, one in enumerate(SAY)),
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n" + "".join(RTE),
    "SST-2/dev.tsv": "sentence\tlabel\n" + "".join(f"{one}\t{i % 2}\n" for i, one in enumerate(SAY)),
}


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("suites"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        for name, text in GLUE.items():
            path = Path("glue") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for key, name in (("cola", "CoLA"), ("rte", "RTE")):
            learn("classify", f"glue/{name}/dev.tsv", f"runs/{name}", {"format": f"glue:{key}"})
        yield
    torch.set_num_threads(threads)


def learn(task, file, out, columns):
    vocablo.finetune(
        task, model="bert:tiny", train=file, dev=file, out=out, columns=columns, overrides=SMALL, quiet=True
    )


def test_every_task_of_glue_says_what_it_is_or_lacks():
    found = vocablo.evaluate_model("glue", "runs", "glue", out="sent", quiet=True)
    done = run("evaluate", "glue", "-m", "runs", "--data", "glue", "--out", "sent", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == as_json(found)
    cells = {cell.name: cell for cell in found.cells}
    assert cells["MNLI-m"].absent == "no data"
    assert cells["SST-2"].absent == "no model"
    for name in ("CoLA", "RTE"):  # the figures are those of the file that was written
        assert cells[name].report == vocablo.evaluate("glue", f"sent/{name}.tsv", f"glue/{name}/dev.tsv", options={"task": name})  # fmt: skip
    text = run("evaluate", "glue", "-m", "runs", "--data", "glue").out
    assert "no data" in text
    assert f"{cells['RTE'].report.scores[0].value * 100:.2f}" in text


@pytest.mark.parametrize("other", ["sent", "sent/RTE.tsv", "runs", "runs/RTE"])
def test_against_itself_nothing_differs(other):
    vocablo.evaluate_model("glue", "runs", "glue", out="sent", quiet=True)
    done = run("evaluate", "glue", "rte", "-m", "runs/RTE", "--data", "glue", "--against", other, "--json")
    assert done.code == 0, done.err
    (cell,) = json.loads(done.out)["cells"]
    assert [one["difference"] for one in cell["report"]["comparison"]] == [0]


def test_against_other_predictions():
    vocablo.evaluate_model("glue", "runs", "glue", out="other", quiet=True)
    path = Path("other/RTE.tsv")
    answers = {True: "entailment", False: "not_entailment"}
    path.write_text("index\tprediction\n" + "".join(f"{i}\t{answers[i % 3 != 0]}\n" for i in range(24)))
    done = run("evaluate", "glue", "-m", "runs", "--data", "glue", "--against", "other")
    assert done.code == 0, done.err
    one = (
        vocablo.evaluate_model("glue", "runs", "glue", options={"task": "rte"}, against="other", quiet=True)
        .cells[0]
        .report
    )
    assert one.comparison[0].second == 1
    assert f"{one.comparison[0].difference * 100:+.2f}" in done.out


def test_test_sets_without_labels_give_predictions_alone():
    line = "evaluate glue cola -m runs --data glue --split test --out cola.tsv --json"
    done = run(*line.split())
    assert done.code == 0, done.err
    (cell,) = json.loads(done.out)["cells"]
    assert (cell["report"], cell["out"]) == (None, "cola.tsv")
    assert len(Path("cola.tsv").read_text().splitlines()) == 25


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("glue", ["What is to be measured", "--model", "--predictions"]),
        ("glue -m runs", ["On what", "--data"]),
        ("glue -m runs --predictions x --gold y", ["one of the two"]),
        ("glue -m runs --data glue --gold glue/RTE/dev.tsv", ["--gold doesn't go with --model"]),
        ("glue rte --predictions a --gold b --data glue", ["--data doesn't go with --predictions"]),
        ("glue -m nowhere --data glue", ["nowhere"]),
        ("glue -m runs --data nowhere", ["nowhere"]),
        ("glue -m runs --data glue/RTE/dev.tsv", ["one file", "evaluate glue cola"]),
        ("glue -m runs/RTE --data glue", ["one model", "evaluate glue cola"]),
        ("glue colla -m runs --data glue", ["'colla'", "cola"]),
        ("glue mnli -m runs --data glue", ["Nothing to evaluate", "no data"]),
        ("glue -m runs --data glue --split tset", ["'tset'", "test"]),
        ("glue -m runs --data glue --against glue/RTE/dev.tsv", ["one file"]),
        ("glue -m runs --data glue --against runs/RTE", ["--against", "CoLA"]),
        ("ner -m runs/RTE --data runs", ["Nothing to evaluate", "no data"]),
        ("squad rte -m runs --data glue", ["'task'"]),
        ("glue sst2 -m runs/RTE --data glue", ["no label 'entailment'"]),
        ("pos -m runs/RTE --data words.conll", ["model for classify", "finetune tag"]),
    ],
)
def test_what_cant_be_done_is_one_line(line, words):
    Path("words.conll").write_text("sol N\n")
    if "--against runs/RTE" in line:
        shutil.rmtree("lone", ignore_errors=True)
        shutil.copytree("runs/RTE", "lone/RTE")
        line = line.replace("--against runs/RTE", "--against lone")
    refused(run("evaluate", *line.split()), *words, early=False)
