"""The commands of labelled tasks: the JSON is the Python result, and what can't be done is one line."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from command_line import refused, vocablo
from task_examples import choices, numbers, questions, tagged, texts
from tiny_models import bert, wordpieces
from vocablo import checkpoint
from vocablo.api import load
from vocablo.base.results import as_json

SMALL = ["architecture.stack.width=16", "architecture.attention.heads=2", "train.epochs=1", "train.batch=8"]


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tasks"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        with Path("train.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("texto", "clase"), *((one.text, one.label) for one in texts(30))])
        tokenizer = wordpieces()
        checkpoint.save("bert", bert(tokenizer.size), tokenizer)
        yield
    torch.set_num_threads(threads)


NAMED = ["--text-column", "texto", "--label-column", "clase"]


@pytest.fixture(scope="module")
def learnt():
    done = vocablo("finetune", "classify", "-m", "bert:tiny", "--train", "train.csv", "--out", "m", *NAMED, *SMALL)
    assert done.code == 0, done.err
    return done


def test_finetune_says_what_was_learnt_and_what_to_try(learnt):
    assert "held-out accuracy" in learnt.out
    assert 'vocablo classify "..." --model m' in learnt.out
    assert "3 of the 30 examples, drawn by lot, are held out" in learnt.err
    assert re.search(r"loss \d\.\d{4}, best validation accuracy [01]\.\d{4}$", learnt.err.strip().splitlines()[-1])


def test_classify_takes_texts_and_standard_input(learnt):
    asked = load("m")
    told = json.loads(vocablo("classify", "sol luna", "-m", "m", "--json").out)
    assert told == as_json(asked.classify("sol luna")[0])
    several = json.loads(vocablo("classify", "-", "-m", "m", "--json", stdin="sol\n\nmar\n").out)["results"]
    assert several == as_json(asked.classify(["sol", "mar"]))
    assert asked.classify("sol luna")[0].label in vocablo("classify", "sol luna", "-m", "m").out


@pytest.mark.parametrize("out", ["p.jsonl", "p.csv", "p.tsv"])
def test_predict_writes_a_table(learnt, out):
    assert vocablo("predict", "train.csv", "-m", "m", "--out", out, "--text-column", "texto").code == 0
    found = Path(out).read_text(encoding="utf-8").splitlines()
    assert len(found) == 30 + (out != "p.jsonl")
    first = (
        json.loads(found[0])
        if out == "p.jsonl"
        else dict(zip(*csv.reader(found[:2], delimiter="\t" if out == "p.tsv" else ","), strict=True))
    )
    assert list(first) == ["id", "label", "prob"]


def test_a_number_of_a_text_or_of_a_pair(learnt):
    with Path("numbers.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a", "b", "label"), *((one.text, one.pair, one.label) for one in numbers(30))])
    named = ["--text-column", "a", "--pair-column", "b"]
    done = vocablo("finetune", "regress", "-m", "bert:tiny", "--train", "numbers.csv", "--out", "n", *named, *SMALL)
    assert done.code == 0, done.err
    assert "held-out spearman" in done.out
    assert 'vocablo predict "..." --model n' in done.out
    asked = load("n")
    told = json.loads(vocablo("predict", "sol luna", "--pair", "mar", "-m", "n", "--json").out)["results"]
    assert told == as_json(asked.predict("sol luna", "mar"))
    assert vocablo("predict", "sol luna", "--pair", "mar", "-m", "n").out == f"{told[0]['value']:.4f}\tsol luna | mar\n"
    several = json.loads(vocablo("predict", "-", "--pair", "mar", "-m", "n", "--json", stdin="sol\nluna\n").out)[
        "results"
    ]
    assert several == as_json(asked.predict(["sol", "luna"], ["mar", "mar"]))
    assert vocablo("predict", "numbers.csv", "-m", "n", "--out", "n.csv", *named).code == 0
    assert Path("n.csv").read_text(encoding="utf-8").splitlines()[0] == "id,value"
    refused(vocablo("predict", "nowhere.csv", "-m", "n", "--out", "n.csv"), "no file nowhere.csv", early=False)
    refused(vocablo("classify", "sol", "-m", "n"), "classify", "predict", early=False)


def test_tags_of_sentences(learnt):
    lines = ["\n".join(map(" ".join, zip(one.words, one.tags, strict=True))) for one in tagged(20)]
    Path("t.conll").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    done = vocablo("finetune", "tag", "-m", "bert", "--train", "t.conll", "--out", "t", "train.epochs=1")
    assert done.code == 0, done.err
    assert "held-out f1" in done.out
    asked = load("t")
    assert json.loads(vocablo("tag", "El sol.", "-m", "t", "--json").out) == as_json(asked.tag("El sol.")[0])
    several = json.loads(vocablo("tag", "-", "-m", "t", "--json", stdin="sol\n\nmar luna\n").out)["results"]
    assert several == as_json(asked.tag(["sol", "mar luna"]))
    assert asked.tag("El sol.")[0].tags[1] in vocablo("tag", "El sol.", "-m", "t").out
    assert vocablo("predict", "t.conll", "-m", "t", "--out", "p.conll").code == 0
    assert len(Path("p.conll").read_text(encoding="utf-8").splitlines()[0].split()) == 2
    assert asked.tag([tagged(1)[0].words])[0].tags[0] in vocablo("predict", "t.conll", "-m", "t").out.split("\t")[0]
    refused(vocablo("predict", "t.conll", "-m", "t", "--out", "p.csv"), ".conll", "p.csv", early=False)
    refused(vocablo("tag", " ", "-m", "t"), "Sentence 0 has no words", early=False)
    refused(vocablo("predict", "el sol", "-m", "t"), "predict needs", "tag", early=False)


def test_answers_to_questions(learnt):
    rows = [
        {
            "context": one.context,
            "qas": [{
                "id": one.id, "question": one.question, "is_impossible": one.impossible,
                "answers": [{"text": answer.text, "answer_start": answer.start} for answer in one.answers],
            }],
        }
        for one in questions(20, impossible=True)
    ]  # fmt: skip
    Path("q.json").write_text(json.dumps({"data": [{"title": "q", "paragraphs": rows}]}), encoding="utf-8")
    given = ["finetune", "span", "-m", "bert:tiny", "--dev", "q.json", "--out"]
    done = vocablo(*given, "s", "--train", "q.json", *SMALL)
    assert done.code == 0, done.err
    assert "held-out f1" in done.out
    assert 'vocablo answer "..." --context "..." --model s' in done.out
    one = load("s").answer("¿sol?", "el sol y\nla luna")
    asked = ["answer", "¿sol?", "-m", "s"]
    told = vocablo(*asked, "--context", "el sol y\nla luna", "--json").out
    assert json.loads(told) == as_json(one)
    assert vocablo(*asked, "--context", "-", "--json", stdin="el sol y\nla luna").out == told
    Path("context.txt").write_text("el sol y\nla luna", encoding="utf-8")
    assert vocablo(*asked, "--context-file", "context.txt", "--json").out == told
    shown = vocablo(*asked, "--context-file", "context.txt").out
    assert shown.splitlines()[0] == (" ".join(one.text.split()) or "(no answer)")
    assert " ".join(one.alternatives[0].text.split()) in shown
    assert vocablo("predict", "q.json", "-m", "s", "--out", "predictions.json").code == 0
    assert list(json.loads(Path("predictions.json").read_text(encoding="utf-8"))) == [str(i) for i in range(20)]
    assert vocablo("evaluate", "squad", "--predictions", "predictions.json", "--gold", "q.json").code == 0
    refused(vocablo("predict", "q.json", "-m", "s", "--out", "p.csv"), ".json file", "p.csv", early=False)
    refused(vocablo(*asked), "--context", "--context-file", early=False)
    refused(vocablo(*asked, "--context", " "), "can't be empty", early=False)
    refused(vocablo("answer", "¿sol?", "--context", "sol", "-m", "m"), "answer", "span", early=False)
    rows[3]["qas"][0] |= {"is_impossible": False, "answers": [{"text": "barco", "answer_start": 0}]}
    Path("bad.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}), encoding="utf-8")
    refused(vocablo(*given, "x", "--train", "bad.json"), "question '3'", "the answer 'barco'", early=False)
    refused(vocablo(*given, "x", "--train", "context.txt"), "context.txt isn't valid JSON", early=False)
    assert not Path("x").exists()


def test_a_choice_of_several(learnt):
    with Path("c.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(one.text, *(one.choices * 2)[:3], int(one.id) % 3) for one in choices(20)]
        csv.writer(file).writerows([("texto", "a", "b", "c", "label"), *rows])
    named = ["--text-column", "texto", "--choice-columns", "a", "b", "c"]
    done = vocablo("finetune", "choose", "-m", "bert", "--train", "c.csv", "--out", "c", *named, "train.epochs=1")
    assert done.code == 0, done.err
    assert "held-out accuracy" in done.out
    asked = load("c")
    told = json.loads(vocablo("choose", "el sol", "--choices", "sale", "se pone", "-m", "c", "--json").out)
    assert told == as_json(asked.choose("el sol", ["sale", "se pone"]))
    shown = vocablo("choose", "el sol", "--start", "hoy", "--choices", "sale", "se pone", "-m", "c").out
    one = asked.choose("el sol", ["sale", "se pone"], start="hoy")
    assert shown.startswith(one.choices[one.choice])
    assert vocablo("predict", "c.csv", "-m", "c", "--out", "c.tsv", *named).code == 0
    assert len(Path("c.tsv").read_text(encoding="utf-8").splitlines()) == 21
    refused(vocablo("choose", "el sol", "--choices", "sale", "-m", "c"), "--choices", "two or more", early=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["finetune", "classify", "--train", "train.csv", "--out", "x"], ["Which model", "FAMILY:SIZE"]),
        (["finetune", "classify", "-m", "bert", "--out", "x"], ["Which examples", "--train"]),
        (["finetune", "classify", "-m", "bert", "--train", "train.csv", *NAMED], ["Where to", "--out"]),
        (["finetune", "clasify", "-m", "bert", "--train", "train.csv", "--out", "x"], ["clasify", "classify"]),
        (["finetune", "classify", "-m", "bert", "--train", "train.csv", "--out", "x"], ["no column 'text'", "clase, texto"]),
        (["finetune", "classify", "-m", "nowhere", "--train", "train.csv", "--out", "x", *NAMED], ["nowhere"]),
        (["classify", "sol", "-m", "bert"], ["classify asked of an encoder", "fill"]),
        (["classify", " ", "-m", "m"], ["Text 0 is empty"]),
        (["predict", "train.csv", "-m", "m", "--out", "p.xlsx", "--text-column", "texto"], [".jsonl", "p.xlsx"]),
        (["fill", "[MASK]", "-m", "m"], ["fill asked of a model for classify", "classify"]),
    ],
)  # fmt: skip
def test_what_cant_be_done_is_one_line(learnt, arguments, words):
    refused(vocablo(*arguments), *words, early=False)


HEAD, GOOD = "texto,clase\n", "".join(f"sol luna {i},{'sí' if i % 2 else 'no'}\n" for i in range(20))


@pytest.mark.parametrize(
    ("table", "dev", "words"),
    [
        (HEAD + GOOD.replace(",no", ",sí"), None, ["only 'sí' as a label", "two classes"]),
        (HEAD + GOOD + ",sí\n", None, ["nothing in column 'texto'", "line 22"]),
        (HEAD + GOOD + "mar,\n", None, ["nothing in column 'clase'", "line 22"]),
        (HEAD + GOOD + "mar,nan\nsol,NaN\n", None, ["2 rows have nothing in column 'clase'", "line 22"]),
        (HEAD + GOOD + "mar\n", None, ["line 22: 1 fields, and the header has 2"]),
        (HEAD + GOOD, HEAD + "mar,quizás\n", ["label 'quizás'", "the training examples lack"]),
        (HEAD + GOOD, "text,label\nmar,no\n", ["no column 'texto'", "text"]),
        (GOOD, None, ["no column 'texto'", "sol luna 0"]),
        ((HEAD + GOOD).replace(",", ";"), None, ["no column 'texto'", "texto;clase"]),
        ("texto,texto\n" + GOOD, None, ["two columns 'texto'"]),
        (HEAD, None, ["no examples"]),
    ],
)  # fmt: skip
def test_tables_that_cant_be_learnt_from_are_one_line(table, dev, words):
    Path("bad.csv").write_text(table, encoding="utf-8")
    given = ["--train", "bad.csv"]
    if dev is not None:
        Path("dev.csv").write_text(dev, encoding="utf-8")
        given += ["--dev", "dev.csv"]
    refused(
        vocablo("finetune", "classify", "-m", "bert:tiny", "--out", "x", *given, *NAMED, *SMALL), *words, early=False
    )
    assert not Path("x").exists(), "bad examples are refused before a run begins"


def test_ids_that_stand_twice_are_refused():
    Path("ids.csv").write_text("id,texto,clase\na,sol,no\na,mar,sí\n", encoding="utf-8")
    given = ["finetune", "classify", "-m", "bert:tiny", "--train", "ids.csv", "--out", "x", "--id-column", "id"]
    refused(vocablo(*given, *NAMED, *SMALL), "the id 'a' twice", early=False)


def test_a_head_for_other_labels_is_refused(learnt):
    Path("other.csv").write_text(HEAD + GOOD, encoding="utf-8")
    done = vocablo("finetune", "classify", "-m", "m", "--train", "other.csv", "--out", "x", *NAMED)
    refused(done, "aren't the model's", "--fresh-head", early=False)


@pytest.mark.parametrize(("mark", "end"), [(b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n")])
def test_marks_line_ends_quotes_and_line_ends_in_fields_are_read(learnt, mark, end):
    rows = [b"texto,clase", b'"sol, ""luna""' + end + b'mar",no', "año,sí".encode()]
    Path("odd.csv").write_bytes(mark + end.join(rows) + end)
    done = vocablo("predict", "odd.csv", "-m", "m", "--out", "p.jsonl", "--text-column", "texto")
    assert done.code == 0, done.err
    found = [json.loads(line) for line in Path("p.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = load("m").classify(['sol, "luna"\nmar', "año"])
    assert [one["label"] for one in found] == [one.label for one in expected]
    assert [one["prob"] for one in found] == pytest.approx([one.prob for one in expected], abs=1e-5)
