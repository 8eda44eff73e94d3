"""The lecture's tables: our line beside the published ones, cells without data, and runs that go on where they were left."""

import json
from pathlib import Path

import pytest
import torch

from command_line import refused
from command_line import vocablo as run
from vocablo.api import evaluate_model
from vocablo.evaluation import papers

WORDS = ("sol", "luna", "mar", "río", "monte", "nube")
SAY = [f"{WORDS[i % 6]} {WORDS[(i * i) % 6]} {WORDS[i % 5]}" for i in range(24)]
SST = "sentence\tlabel\n" + "".join(f"{one}\t{i % 2}\n" for i, one in enumerate(SAY))
NLI = "gold_label\tsentence1\tsentence2\n" + "".join(
    f"{('neutral', 'entailment', 'contradiction')[i % 3]}\t{one}\t{WORDS[i % 4]}\n" for i, one in enumerate(SAY)
)
TRAIN = ["train.batch=8", "read.context=24", "--steps", "2"]
SMALL = ["architecture.stack.width=16", "architecture.attention.heads=2"]
ONE = ["table", "1", "-m", "bert:tiny", "--data", "glue", "--out", "one", "--seeds", "2", *TRAIN, *SMALL]


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tables"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        files = {"SST-2": (SST, "dev"), "MNLI": (NLI, "dev_matched", "dev_mismatched")}
        for name, (text, *held_out) in files.items():
            for split in ("train", *held_out):
                path = Path("glue") / name / f"{split}.tsv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        Path("text.txt").write_text(
            "\n".join(f"{one.capitalize()}. {WORDS[i % 4].capitalize()} y {one}." for i, one in enumerate(SAY * 4))
            + "\n"
        )
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def glue():
    done = run(*ONE)
    assert done.code == 0, done.err
    return done


def ours(line):
    return next(one for one in line.out.splitlines() if one.strip().startswith("ours:"))


def test_our_line_stands_beside_the_published_ones(glue):
    assert "BERT BASE" in glue.out
    assert "93.5" in glue.out
    table = json.loads(Path("one/table1.json").read_text(encoding="utf-8"))
    cells = dict(zip(table["columns"], table["ours"][0]["values"], strict=True))
    assert [name for name, one in cells.items() if one["value"] is None] == [
        "QQP",
        "QNLI",
        "CoLA",
        "STS-B",
        "MRPC",
        "RTE",
    ]
    assert {one["absent"] for one in cells.values()} == {None, "no data"}
    assert cells["SST-2"]["seeds"] == 2
    known = [one["value"] for name, one in cells.items() if one["value"] is not None and name != "Average"]
    assert cells["Average"]["value"] == pytest.approx(sum(known) / 3)
    assert f"{cells['SST-2']['value']:.2f} ± {cells['SST-2']['deviation']:.2f}" in ours(glue)
    assert "differs: budget: 2 seeds, 2 steps, train.batch=8" in glue.out
    assert "BERT BASE" in Path("one/table1.html").read_text(encoding="utf-8")


def test_the_figures_are_those_that_evaluate_gives(glue):
    found = {
        cell.name: cell.report for cell in evaluate_model("glue", "one/models/bert-tiny", "glue", quiet=True).cells
    }
    kept = json.loads(Path("one/cells/bert-tiny/mnli.json").read_text(encoding="utf-8"))["found"]
    best = max(one["value"] for one in kept["dev"]["accuracy"])  # the best seed's model stands in the cell's folder
    assert found["MNLI-m"].scores[0].value == best
    assert found["MNLI-mm"].scores[0].value in [one["value"] for one in kept["mismatched"]["accuracy"]]


def test_what_is_finished_is_not_made_again(glue, monkeypatch):
    def never(*_):
        raise AssertionError("a finished cell was made again")

    monkeypatch.setattr("vocablo.training.finetune.run", never)
    assert run(*ONE).out == glue.out
    Path("one/cells/bert-tiny/sst2.json").rename("kept.json")
    with pytest.raises(AssertionError, match="made again"):  # and only what is finished
        run(*ONE)
    Path("kept.json").rename("one/cells/bert-tiny/sst2.json")
    refused(run(*ONE[:-2], "train.lr=1e-3", *ONE[-2:]), "made with other overrides", "--out", early=False)


def test_sizes_are_pretrained_and_fine_tuned():
    line = [
        "table", "6", "--sizes", "tiny", "--text", "text.txt", "--documents", "line", "--data", "glue", "--out", "six",
        "--pretrain-steps", "2", *TRAIN, "pretrain.context=24", "pretrain.train.batch=4", "pretrain.model.stack.width=16",
        "pretrain.model.attention.heads=2",
    ]  # fmt: skip
    done = run(*line, "--json")
    assert done.code == 0, done.err
    table = json.loads(done.out)
    (row,) = table["ours"]
    assert row["facts"] == ["2", "16", "2"]
    pretrained = json.loads(Path("six/cells/pretrained/tiny.json").read_text(encoding="utf-8"))["found"]
    assert row["values"][0]["value"] == pretrained["perplexity"]
    assert [one["examples"] for one in row["values"][1:]] == [24, None, 24]
    assert run(*line, "--json").out == done.out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("table 3 -m bert:tiny --data glue", ["no table 3", "1, "]),
        ("table 1 --data glue", ["Which model"]),
        ("table 1 -m bert:tiny", ["On which data"]),
        ("table 1 -m bert:tiny --data nowhere", ["nowhere"]),
        ("table 1 -m bert:tiny --data glue --dev glue/SST-2/dev.tsv", ["Table 1", "--data alone"]),
        ("table 1 -m bert:tiny --data glue --fraction 2", ["--fraction"]),
        ("table 1 -m bert:tiny --data glue train.lrr=1", ["lrr", "lr"]),
        ("table 1 -m nowhere --data glue", ["nowhere"]),
        ("table 6 --sizes tiny --data glue", ["--sizes", "--text"]),
        ("table 1 stray -m bert:tiny --data glue", ["'stray'", "section.key=value"]),
    ],
)
def test_what_cant_be_done_is_one_line(line, words, tmp_path):
    refused(run(*line.split(), "--out", str(tmp_path / "out")), *words, early=False)


def test_every_table_is_well_formed():
    for number in papers.numbers():
        room = papers.registry.load(papers.TABLES, f"table{number}")
        for _, facts, figures in room.PUBLISHED:
            assert (len(facts), len(figures)) == (len(room.LEAD), len(room.COLUMNS))


def test_codah_stands_in_for_swag_and_says_so():
    Path("codah").mkdir()
    for split in ("train", "dev", "test"):
        lines = [f"o\t{one}\tsol\tluna\tmar\tpan\t{i % 4}\n" for i, one in enumerate(SAY)]
        Path("codah", f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    done = run("table", "4", "-m", "bert:tiny", "--data", "codah", "--out", "four", *TRAIN, *SMALL)
    assert done.code == 0, done.err
    assert "differs: data: CODAH" in done.out
    (cell,) = evaluate_model("swag", "four/models/bert-tiny/codah", "codah", split="test", quiet=True).cells
    assert f"{100 * cell.report.scores[0].value:.2f}" in ours(done)


def test_entities_fine_tuned_and_from_frozen_features():
    Path("ner").mkdir()
    for split in ("train", "testa", "testb"):
        text = "\n\n".join(
            "\n".join(f"{word} {'B-X' if word == 'sol' else 'O'}" for word in one.split()) for one in SAY
        )
        Path("ner", f"esp.{split}").write_text(text + "\n", encoding="utf-8")
    line = ["table", "7", "-m", "bert:tiny", "--data", "ner", "--out", "seven", *TRAIN, *SMALL, "read.lstm_width=8"]
    done = run(*line)
    assert done.code == 0, done.err
    rows = [one.split(", ")[1].split("  ")[0] for one in done.out.splitlines() if one.strip().startswith("ours:")]
    assert rows == [
        "fine-tuned",
        "embeddings",
        "second-to-last",
        "last",
        "weighted-last-4",
        "concat-last-4",
        "weighted-all",
    ]
    assert done.out.count("too few layers") == 4  # the model has two, and two choices want four, in both columns
    cell = evaluate_model("ner", "seven/models/bert-tiny/ner", "ner", split="test", quiet=True).cells[0]
    assert f"{100 * cell.report.scores[0].value:.2f}" in ours(done)


def test_articles_of_the_development_set_are_learnt_from_and_the_others_measured():
    articles = []
    for number in range(3):
        questions = [
            {"id": f"{number}-{i}", "question": f"¿{word}?", "answers": [{"text": word, "answer_start": SAY[number].index(word)}]}
            for i, word in enumerate(SAY[number].split())
        ]  # fmt: skip
        articles.append({"title": f"article {number}", "paragraphs": [{"context": SAY[number], "qas": questions}]})
    Path("squad").mkdir()
    Path("squad/dev-v1.1.json").write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")
    line = ["table", "2", "-m", "bert:tiny", "--data", "squad", "--articles"]
    done = run(*line, "2", "--out", "two", *TRAIN, *SMALL)
    assert done.code == 0, done.err
    assert "learnt from the first 2 articles of the development set and measured on the other 1" in done.out
    kept = json.loads(next(Path("two/cells/bert-tiny").glob("*.json")).read_text(encoding="utf-8"))["found"]
    assert kept["dev"]["exact match"][0]["count"] == 3
    refused(run(*line, "3", "--out", "more", *TRAIN, *SMALL), "--articles is between 0 and 3", early=False)
