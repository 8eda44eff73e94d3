"""Documents from the command line: learnt on a file, asked, looked into; what doesn't fit is one line and exit code 2."""

import json
from pathlib import Path

import pytest
import torch

from command_line import refused, vocablo
from vocablo import api
from vocablo.base.results import as_json
from vocablo.data import reviews

TEXT = "El hotel está buenísimo. La comida era regular."
LEARN = ("finetune", "classify", "--model", "han:tiny", "--train", "hoteles.csv")


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("documents"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        done = vocablo("corpus", "--reviews", "300", "--out", "hoteles.csv")
        assert done.code == 0, done.err
        done = vocablo(*LEARN, "--out", "han", "--json", "train.steps=12")
        assert done.code == 0, done.err
        result = json.loads(done.out)
        assert (result["labels"], result["examples"]) == (["negativo", "positivo"], 270)
        yield
    torch.set_num_threads(threads)


def test_the_folder_says_what_it_is_and_answers_as_python_does():
    assert json.loads(vocablo("info", "han", "--json").out)["model_type"] == "vocablo-han"
    loaded = api.load("han")
    assert {"classify", "attend", "predict"} <= set(loaded.verbs)
    assert json.loads(vocablo("classify", TEXT, "-m", "han", "--json").out) == as_json(loaded.classify(TEXT)[0])
    assert json.loads(vocablo("attend", TEXT, "-m", "han", "--json").out) == as_json(loaded.attend(TEXT))
    done = vocablo("predict", "hoteles.csv", "-m", "han", "--out", "found.jsonl", "--json")
    assert len(json.loads(done.out)["results"]) == len(Path("found.jsonl").read_text().splitlines()) == 300


def test_attend_draws_the_document():
    done = vocablo("attend", TEXT, "-m", "han", "--html", "hotel.html")
    assert [line.split()[1] for line in done.out.splitlines() if "%" in line] == ["%", "%"]
    page = Path("hotel.html").read_text(encoding="utf-8")
    assert "buenísimo</span>" in page
    assert "http" not in page.split("</head>")[1]
    assert "<div class='vd'>" in api.load("han").attend(TEXT)._repr_html_()


def test_word_vectors_begin_the_table_and_are_kept_when_frozen():
    words = [word for word in reviews.polarity() if word.isalpha()]
    rows = [f"{word} {i / 7:.3f} {-i / 9:.3f} 0.5" for i, word in enumerate(words)]
    Path("vectors.vec").write_text(f"{len(words)} 3\n" + "\n".join(rows) + "\n", encoding="utf-8")
    done = vocablo(*LEARN, "--out", "frozen", "train.steps=2", "architecture.embed.vectors=vectors.vec", "architecture.embed.frozen=true")  # fmt: skip
    assert done.code == 0, done.err
    assert "begin with their vectors in vectors.vec" in done.err
    loaded = api.load("frozen")
    row = loaded.model.tokens.weight[loaded.tokenizer.id("horrible")]
    at = words.index("horrible")
    assert row.tolist() == pytest.approx([at / 7, -at / 9, 0.5], abs=1e-3)


def test_numbers_are_learnt_on_documents_too():
    text = "text,value\n" + "".join(
        f"El hotel {word}. Y la comida.,{weight}\n" for word, weight in reviews.polarity().items()
    )
    Path("numbers.csv").write_text(text, encoding="utf-8")
    done = vocablo("finetune", "regress", "--model", "han:tiny", "--train", "numbers.csv", "--label-column", "value", "--out", "value", "train.steps=3")  # fmt: skip
    assert done.code == 0, done.err
    done = vocablo("attend", TEXT, "-m", "value", "--json")
    assert isinstance(json.loads(done.out)["prediction"]["value"], float)


def test_what_does_not_fit_is_refused():
    refused(vocablo("classify", "  ", "-m", "han"), "Text 0 is empty")
    refused(vocablo("attend", TEXT, "-m", "han", "--svg", "hotel.svg"), "--html")
    refused(vocablo("attend", TEXT, "-m", "han", "--layer", "1"), "--layer isn't for this kind of model", "takes none")
    refused(vocablo("pretrain", "han", "--text", "hoteles.csv", "--column", "text", "--out", "x"), "finetune classify")
    refused(vocablo("corpus", "--reviews", "3", "--out", "hoteles.txt"), ".csv, .tsv or .jsonl")
    done = vocablo(*LEARN, "--out", "x", "train.steps=2", "read.pooling=mean")
    refused(done, "architecture.stack.pooling", early=False)
    assert not Path("x").exists()
    Path("pairs.csv").write_text("text,other,label\nEl sol.,La luna.,a\nEl mar.,El río.,b\n" * 8, encoding="utf-8")
    done = vocablo(
        "finetune", "classify", "--model", "han:tiny", "--train", "pairs.csv", "--pair-column", "other", "--out", "x"
    )
    refused(done, "not a pair", early=False)
    Path("blank.csv").write_text('text,label\nEl sol.,a\n" ",b\n' * 8, encoding="utf-8")
    done = vocablo("finetune", "classify", "--model", "han:tiny", "--train", "blank.csv", "--out", "x")
    refused(done, "blank.csv", early=False)
    assert not Path("x").exists()


def test_a_model_without_pooling_by_attention_says_what_it_would_need():
    done = vocablo(*LEARN, "--out", "mean", "train.steps=2", "architecture.stack.pooling=mean", "--json")
    assert done.code == 0, done.err
    refused(vocablo("attend", TEXT, "-m", "mean"), "attend needs")
