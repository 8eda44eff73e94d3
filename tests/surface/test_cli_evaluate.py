"""Published tests from files of predictions: the command, its JSON, the Python function, and what is refused."""

import json
from pathlib import Path

import pytest

import vocablo
from command_line import refused
from command_line import vocablo as run
from vocablo.base.results import as_json
from vocablo.evaluation import files

SQUAD = Path(__file__).parents[3] / "shared" / "data" / "squad"
RTE = "index\tsentence1\tsentence2\tlabel\n" + "".join(
    f"{i}\tA {i}.\tB.\t{'entailment' if i % 3 else 'not_entailment'}\n" for i in range(12)
)
STSB = "index\tsentence1\tsentence2\tscore\n" + "".join(f"{i}\tA\tB\t{i / 2}\n" for i in range(10))
CODAH = "".join(f"o\tI {i}\ta\tb\tc\td\t{i % 4}\n" for i in range(8))


def questions(version: str) -> str:
    ask = lambda name, *texts: {  # noqa: E731
        "id": name, "question": "¿?", "answers": [{"text": text, "answer_start": 0} for text in texts],
        **({"is_impossible": not texts} if version == "2.0" else {}),
    }  # fmt: skip
    asked = [ask("a", "El Niño", "niño"), ask("b", "la casa roja")] + ([ask("c"), ask("d")] if version == "2.0" else [])
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "El Niño", "qas": asked}]}]})


FILES = {
    "rte.tsv": RTE,
    "rte.test": RTE.replace("\tlabel", "").replace("\tnot_entailment", "").replace("\tentailment", ""),
    "rte.good": "index\tprediction\n"
    + "".join(f"{i}\t{'entailment' if i % 3 else 'not_entailment'}\n" for i in range(12)),
    "rte.same": "index\tprediction\n" + "".join(f"{i}\tentailment\n" for i in range(12)),
    "rte.less": "index\tprediction\n" + "".join(f"{i}\tentailment\n" for i in range(11)),
    "stsb.tsv": STSB,
    "stsb.good": "index\tprediction\n" + "".join(f"{i}\t{i * i}\n" for i in range(10)),
    "stsb.flat": "index\tprediction\n" + "".join(f"{i}\t1.5\n" for i in range(10)),
    "one.json": questions("1.1"),
    "two.json": questions("2.0"),
    "answers.json": json.dumps({"a": "Niño", "b": "casa"}),
    "more.json": json.dumps({"a": "el niño", "b": "", "c": "", "d": "x", "z": "y"}),
    "sure.json": json.dumps({"a": 0.1, "b": 0.2, "c": 0.9, "d": 0.8}),
    "unsure.json": json.dumps({"a": 0.1}),
    "other.json": json.dumps({"x": "y"}),
    "gold.conll": "Ana NP I-PER\nva V O\n\nLa D O\nHabana NP I-LOC\n",
    "good.conll": "Ana I-PER\nva O\n\nLa O\nHabana B-LOC\n",
    "both.conll": "Ana B-PER I-PER\nva O O\n\nLa O O\nHabana B-LOC O\n",
    "less.conll": "Ana I-PER\nva O\n",
    "words.conll": "Ana I-PER\nva O\n\nLa O\nHavana B-LOC\n",
    "codah.tsv": CODAH,
    "codah.txt": "".join(f"{i % 4 if i else 3}\n" for i in range(8)),
}


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


CASES = [  # arguments of the command, options of the function, the first score, the count
    ("glue rte --predictions rte.same --gold rte.tsv", {"task": "rte"}, ("accuracy", 8 / 12), 12),
    ("glue STS-B --predictions stsb.good --gold stsb.tsv", {"task": "STS-B"}, ("spearman", 1.0), 10),
    ("squad --predictions answers.json --gold one.json", {}, ("exact match", 0.5), 2),
    ("squad --predictions answers.json --gold one.json --language es", {"language": "es"}, ("exact match", 0.5), 2),
    ("squad --predictions more.json --gold two.json", {}, ("exact match", 0.5), 4),
    ("ner --predictions good.conll --gold gold.conll", {}, ("f1", 1.0), 2),
    ("ner --predictions good.conll --gold gold.conll --strict", {"mode": "strict"}, ("f1", 2 / 3), 2),
    ("ner --predictions both.conll", {}, ("f1", 2 / 3), 2),
    ("pos --predictions gold.conll --gold gold.conll --column 2", {"column": 2}, ("tag accuracy", 1.0), 2),
    ("swag --predictions codah.txt --gold codah.tsv", {}, ("accuracy", 7 / 8), 8),
]


@pytest.mark.parametrize(("line", "options", "first", "count"), CASES, ids=[case[0] for case in CASES])
def test_command_json_and_function_say_the_same(line, options, first, count):
    words = line.split()
    value = lambda name: words[words.index(name) + 1] if name in words else None  # noqa: E731
    report = vocablo.evaluate(words[0], value("--predictions"), value("--gold"), options=options)
    assert (report.scores[0].name, report.scores[0].value) == (first[0], pytest.approx(first[1]))
    assert report.scores[0].count == count
    done = run("evaluate", *words, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == as_json(report)
    text = run("evaluate", *words)
    assert text.code == 0
    assert f"{first[1] * 100:.2f}" in text.out
    assert report.protocol in text.out


def test_facts_groups_and_notes():
    report = files.evaluate("squad", "more.json", "two.json", options={"no_answer": "sure.json", "threshold": 0.5})
    assert [score.value for score in report.scores] == [0.75, 0.75]  # d is over the threshold, so it isn't answered
    assert report.facts["best exact match"] == 0.75
    assert [(group.name, group.scores[0].value) for group in report.groups] == [("has answer", 0.5), ("no answer", 1.0)]
    assert report.notes == ("1 predictions are of questions that the gold file lacks",)
    report = files.evaluate("squad", "answers.json", "two.json")
    assert report.notes == ("2 questions have no prediction, and count as wrong",)
    report = files.evaluate("ner", "good.conll", "gold.conll")
    assert report.facts == {"gold": 2, "predicted": 2, "right": 2}
    assert [group.name for group in report.groups] == ["LOC", "PER"]
    assert report.scores[-1].value == 0.75  # conlleval compares tags as they are written


def test_a_constant_prediction_has_no_correlation():
    line = "evaluate glue stsb --predictions stsb.flat --gold stsb.tsv"
    assert json.loads(run(*line.split(), "--json").out)["scores"][0]["value"] is None
    assert "spearman      -         -" in run(*line.split()).out


@pytest.mark.parametrize("test", ["bootstrap", "randomisation", "mcnemar"])
def test_two_models_compared(test):
    line = f"evaluate glue rte --predictions rte.good --against rte.same --test {test} --gold rte.tsv"
    done = run(*line.split(), "--json")
    (pair,) = json.loads(done.out)["comparison"]
    assert (pair["first"], pair["second"]) == (1.0, pytest.approx(8 / 12))
    assert 0 < pair["p"] < 0.3
    assert run(*line.split(), "--json").out == done.out
    assert "+33.33" in run(*line.split()).out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sqad --predictions rte.same --gold x", ["'sqad'", "did you mean 'squad'"]),
        ("squad --gold one.json", ["--predictions FILE"]),
        ("squad --predictions answers.json", ["--gold FILE"]),
        ("squad --predictions other.json --gold one.json", ["None of the predictions"]),
        ("squad --predictions rte.same --gold one.json", ["rte.same isn't valid JSON"]),
        ("squad --predictions answers.json --gold other.json", ["other.json isn't SQuAD's JSON"]),
        ("squad --predictions answers.json --gold one.json --language fr", ["'en' or 'es'", "'fr'"]),
        ("squad --predictions more.json --gold two.json --no-answer unsure.json", ["3 questions", "'b'"]),
        ("squad rte --predictions answers.json --gold one.json", ["'task'", "language"]),
        ("glue --predictions rte.same --gold rte.tsv", ["Which task", "cola"]),
        ("glue rtee --predictions rte.same --gold rte.tsv", ["did you mean 'rte'"]),
        ("glue rte --predictions rte.same --gold rte.test", ["rte.test has no labels"]),
        ("glue rte --predictions rte.less --gold rte.tsv", ["lacks 1 of the 12", "first is 11"]),
        ("glue stsb --predictions rte.same --gold stsb.tsv", ["finite number"]),
        ("glue rte --predictions rte.same --gold rte.tsv --test ttest", ["'ttest'", "bootstrap"]),
        ("ner --predictions less.conll --gold gold.conll", ["1 sentences", "gold file 2"]),
        ("ner --predictions words.conll --gold gold.conll", ["sentence 2", "'Havana'", "'Habana'"]),
        ("ner --predictions good.conll --gold gold.conll --column 1", ["no tags of spans", "pos"]),
        ("ner --predictions good.conll --gold gold.conll --column 8", ["3 columns", "column 8"]),
        ("ner --predictions good.conll --gold gold.conll --column x", ["column", "integer"]),
        ("ner --predictions both.conll --against both.conll --test mcnemar", ["McNemar"]),
        ("swag --predictions rte.same --gold codah.tsv", ["12 predictions", "8 examples"]),
        ("swag --predictions nothing --gold codah.tsv", ["nothing"]),
    ],
)
def test_refusals(line, words):
    refused(run("evaluate", *line.split()), *words)


@pytest.mark.skipif(not SQUAD.exists(), reason="needs the prediction files of SQuAD's leaderboard")
def test_the_published_figures_from_the_command():
    name = "BERT (ensemble) (Google AI Language).json"
    gold = SQUAD / "dev-v1.1.reconstructed.json"
    done = run("evaluate", "squad", "--predictions", str(SQUAD / "predictions" / "1.1" / name), "--gold", str(gold))
    assert "86.21" in done.out
    assert "92.20" in done.out
