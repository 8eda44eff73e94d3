"""Probes of every layer: the command, its JSON and the function say the same, and a probe finds what a layer has."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vocablo
from command_line import refused
from command_line import vocablo as run
from tiny_models import TEXTS, bert, counted, gpt, kind, lstm, wordpieces
from vocablo import checkpoint
from vocablo.base.results import as_json
from vocablo.contract import Tokens
from vocablo.evaluation import layers, softmax
from vocablo.tasks._fitting import fitted
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.tasks.classify import TextExample

NOUNS = {"gato", "gata", "pan", "queso", "perro", "luna", "niña", "piñones"}
SENTENCES = [text.split() for text in TEXTS] * 3
COLUMNS = "\n\n".join("\n".join(f"{word} {'N' if word in NOUNS else 'X'}" for word in one) for one in SENTENCES) + "\n"
SPANS = "\n\n".join("\n".join(f"{word} {'B-N' if word in NOUNS else 'O'}" for word in one) for one in SENTENCES) + "\n"
SENSES = "text,word,label\n" + "".join(f"el {a} come el {b},{b},{'bajo' if a == b else 'alto'}\n" for a in ("gato", "pan", "queso") for b in ("gato", "pan", "queso"))  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("probe"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        for name, text in {"pos.conll": COLUMNS, "spans.conll": SPANS, "senses.csv": SENSES}.items():
            Path(name).write_text(text, encoding="utf-8")
        Path("other.conll").write_text("gato Z\n")
        tokenizer, subwords = wordpieces(), kind("bpe")
        checkpoint.save("bert", bert(tokenizer.size), tokenizer)
        checkpoint.save("gpt", gpt(subwords.size), subwords)
        checkpoint.save("lstm", lstm(subwords.size), subwords)
        words = kind("word")
        checkpoint.save("ngram", counted(words), words)
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("model", "file", "more", "measures"),
    [
        ("bert", "pos.conll", {}, ["tag accuracy", "macro f1"]),
        ("gpt", "pos.conll", {}, ["tag accuracy", "macro f1"]),
        ("lstm", "spans.conll", {}, ["f1", "tag accuracy"]),
        ("bert", "senses.csv", {"word_column": "word"}, ["accuracy", "macro f1"]),
        ("gpt", "senses.csv", {}, ["accuracy", "macro f1"]),
    ],
)
def test_command_json_and_function_say_the_same(model, file, more, measures):
    found = vocablo.probe(model, file, file, quiet=True, **more)
    options = [part for name, value in more.items() for part in (f"--{name.replace('_', '-')}", value)]
    line = ["probe", "-m", model, "--train", file, "--dev", file, *options]
    done = run(*line, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == as_json(found)
    assert [one.name for one in found.layers] == ["embeddings", *map(str, range(1, len(found.layers)))]
    assert len(found.layers) == {"bert": 3, "gpt": 2, "lstm": 2}[model]
    assert [one.name for one in found.majority] == measures
    text = run(*line, "--html", "curve.html").out
    assert "majority" in text
    assert f"{100 * found.layers[0].scores[0].value:.2f}" in text
    assert "<svg" in Path("curve.html").read_text(encoding="utf-8")


def test_words_say_their_own_part_of_speech_in_the_embeddings_of_whole_words():
    found = vocablo.probe("bert", "pos.conll", "pos.conll", quiet=True)
    gold = COLUMNS.split()[1::2]
    assert found.majority[0].value == max(gold.count("N"), gold.count("X")) / len(gold)
    assert found.layers[0].scores[0].value > found.majority[0].value


def test_rows_are_the_states_of_the_tokens_themselves(tmp_path):
    loaded = checkpoint.load("bert")
    model, tokenizer = fitted(loaded.model, loaded.tokenizer, pooler=False)
    reader = Reader(model.eval(), tokenizer, ReadSettings())
    examples = [TextExample(str(i), text, None, "x") for i, text in enumerate(TEXTS)]
    found = layers.read(model, layers.of_texts(reader, examples, "here"), tmp_path, "rows", quiet=True)
    for row, text in enumerate(TEXTS):
        ids = [tokenizer.cls_id, *tokenizer.encode(text).ids, tokenizer.sep_id]
        with torch.no_grad():
            hidden = model(Tokens.of([ids]), keep=(0, 1))
        for layer, states in enumerate((*hidden.layers, hidden.states)):
            np.testing.assert_allclose(found[layer][row], states[1:-1].mean(0).numpy(), atol=1e-5)


def test_the_regression_is_at_its_minimum():
    draw = np.random.default_rng(0)  # any data will do: the minimum is looked for by its gradient, which must vanish
    rows = (draw.normal(size=(300, 5)) * [1, 10, 0.1, 1, 1] + 3).astype(np.float32)
    classes = (rows[:, 0] + 0.3 * draw.normal(size=300) > 3).astype(np.int64) + (rows[:, 1] > 8)
    learnt = softmax.fit(rows, classes, 3, weight=0.01)
    x = torch.from_numpy((rows - rows.mean(0)) / rows.std(0)).double()
    matrix = (learnt.weight.double() * torch.from_numpy(rows.std(0)).double()).requires_grad_()
    bias = (learnt.bias + learnt.weight @ torch.from_numpy(rows.mean(0))).double().requires_grad_()
    loss = (
        torch.nn.functional.cross_entropy(x @ matrix.T + bias, torch.from_numpy(classes))
        + 0.005 * matrix.square().sum()
    )
    loss.backward()
    assert loss.item() == pytest.approx(learnt.loss, abs=1e-4)
    assert max(matrix.grad.abs().max(), bias.grad.abs().max()) < 1e-3
    again = softmax.fit(rows, classes, 3, weight=0.01)
    assert torch.equal(again.weight, learnt.weight)
    assert (learnt.predict(rows) == classes).mean() > np.bincount(classes).max() / len(classes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-m bert", ["On which labels", "--train", "--dev"]),
        ("-m ngram --train pos.conll --dev pos.conll", ["probe needs", "counted"]),
        ("-m nowhere --train pos.conll --dev pos.conll", ["nowhere"]),
        ("-m bert --train pos.conll --dev other.conll", ["other.conll", "'Z'"]),
        ("-m bert --train pos.conll --dev pos.conll --fraction 0", ["fraction"]),
        ("-m bert --train pos.conll --dev pos.conll --word-column word", ["--word-column"]),
        ("-m bert --train senses.csv --dev senses.csv --text-column texto", ["'texto'", "text"]),
        ("-m bert --train senses.csv --dev senses.csv --word-column label", ["doesn't have the word"]),
        ("-m bert --train pos.conll --dev nix.conll", ["nix.conll"]),
    ],
)
def test_what_cant_be_done_is_one_line(line, words):
    refused(run("probe", *line.split()), *words, early=False)
