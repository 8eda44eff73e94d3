"""Word vectors as the input of recurrent models: put in where they are known, kept or tuned, and counted."""

import numpy as np
import pytest
import torch

import vocablo
from command_line import refused
from command_line import vocablo as command
from tiny_models import TEXTS, kind
from vocablo import checkpoint
from vocablo.base.errors import DataError
from vocablo.models import rnn
from vocablo.training.inputs import take

WORDS = ["gato", "pan", "la", "perro", "Cádiz", "heladera"]
FAST = ["architecture.stack.width=8", "architecture.stack.layers=1", "train.epochs=2", "train.batch=4", "train.lr=0.01"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = {word: rng.normal(size=6).astype(np.float32) for word in WORDS}
    lines = [f"{word} {' '.join(map(str, row.tolist()))}" for word, row in rows.items()]
    (tmp_path / "v.vec").write_text("6 6\n" + "\n".join(lines) + "\n", encoding="utf-8")
    labelled = [f"{text},{'gato' if 'gat' in text else 'otro'}" for text in TEXTS * 4]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(labelled) + "\n", encoding="utf-8")
    (tmp_path / "text.txt").write_text("\n".join(TEXTS * 8), encoding="utf-8")
    return rows


@pytest.mark.parametrize("name", ["word", "bpe", "wordpiece"])
def test_whole_words_take_their_vectors_and_the_others_keep_theirs(name, place, capsys):
    tokenizer = kind(name)
    changes, inputs = take(rnn, {"embed": {"vectors": "v.vec"}, "stack": {"width": 5}})
    assert changes == {"embed": {"width": 6}, "stack": {"width": 5}}
    torch.manual_seed(0)
    model = rnn.build(rnn.config_for("lstm", "tiny", tokenizer.size, 8, changes))
    before = model.tokens.weight.detach().clone()
    count = inputs.into(model, tokenizer)
    after = model.tokens.weight.detach()
    given = {i: tokenizer.surface(i).strip() for i in range(tokenizer.size) if not torch.equal(after[i], before[i])}
    assert len(given) == count > 0
    for row, word in given.items():
        np.testing.assert_array_equal(after[row].numpy(), place[word])
    if name == "word":
        assert set(given.values()) == {"gato", "pan", "la", "perro", "Cádiz"}
    assert f"{count} of " in capsys.readouterr().err


@pytest.mark.parametrize("frozen", [True, False])
def test_a_classifier_learns_on_them(frozen, place):
    changes = [*FAST, "architecture.embed.vectors=v.vec", f"architecture.embed.frozen={str(frozen).lower()}"]
    result = vocablo.finetune(
        "classify", model="lstm:tiny", train="train.csv", out="out", overrides=changes, quiet=True
    )
    loaded = checkpoint.load("out")
    model, tokenizer = loaded.model, loaded.tokenizer
    assert tokenizer.kind == "word"
    row = model.tokens.weight[tokenizer.id("gato")].detach().numpy()
    assert np.array_equal(row, place["gato"]) == frozen
    assert model.config.embed.frozen == frozen
    assert (result.parameters - result.trained >= 6 * tokenizer.size) == frozen


def test_a_language_model_begins_with_them_and_leaves_them_alone(place):
    changes = [
        "model.embed.vectors=v.vec",
        "model.embed.frozen=true",
        "model.stack.width=8",
        "data.order=documents",
        "train.batch=4",
    ]
    made = vocablo.pretrain(
        "lstm", text="text.txt", out="lm", size="tiny", steps=5, data={"documents": "line"}, quiet=True,
        overrides=[*changes, "tokenizer.kind=word"],
    )  # fmt: skip
    assert made.perplexity
    asked = vocablo.load("lm")
    np.testing.assert_array_equal(asked.model.tokens.weight[asked.tokenizer.id("pan")].detach().numpy(), place["pan"])
    vocablo.pretrain("lstm", text="text.txt", out="more", init_from="lm", steps=3, quiet=True,
                     overrides=["data.order=documents", "data.documents=line", "train.batch=4"])  # fmt: skip
    again = vocablo.load("more").model.tokens.weight
    assert torch.equal(again, asked.model.tokens.weight)


def test_what_does_not_fit_is_refused_in_one_line(place, tmp_path):
    given = ["pretrain", "lstm", "--text", "text.txt", "--out", "x"]
    refused(command(*given, "model.embed.vectors=gone.vec"), "no file or folder gone.vec")
    refused(command(*given, "model.embed.vectors=text.txt"), "text.txt is a file")
    refused(command(*given, "model.embed.vectors=v.vec", "model.embed.width=7"), "embed.width is 7", "6 numbers")
    refused(command(*given, "model.embed.frozen=true", "model.head.tied=true"), "exclude each other")
    refused(command("pretrain", "gpt", *given[2:], "model.embed.vectors=v.vec"), "rnn, gru, lstm")
    (tmp_path / "other.vec").write_text("2 2\nxyz 1 2\nzyx 3 4\n")
    _, inputs = take(rnn, {"embed": {"vectors": "other.vec"}})
    tokenizer = kind("word")
    model = rnn.build(rnn.config_for("lstm", "tiny", tokenizer.size, 8, {"embed": {"width": 2}}))
    with pytest.raises(DataError, match="None of the"):
        inputs.into(model, tokenizer)
