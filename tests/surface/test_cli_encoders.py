"""The commands that ask an encoder: the JSON is the Python result, and a question that can't be answered is one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import refused, vocablo
from tiny_models import TEXTS, bert, gpt, wordpieces
from vocablo import api, checkpoint
from vocablo.base.results import as_json


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("encoders"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        tokenizer = wordpieces()
        torch.manual_seed(0)
        checkpoint.save("bert", bert(tokenizer.size), tokenizer, {"next_sentence": torch.nn.Linear(16, 2)})
        checkpoint.save("states", bert(tokenizer.size, head=None), tokenizer)
        checkpoint.save("gpt", gpt(tokenizer.size, tied=True), tokenizer)
        Path("text.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
        Path("long.txt").write_text("pan " * 40 + "\n")
        yield
    torch.set_num_threads(threads)


MASKED = "el [MASK] come [MASK]"
ASKED = {
    "fill": (["fill", MASKED, "-k", "2"], lambda m: m.fill(MASKED, k=2)),
    "among": (
        ["fill", "el [MASK]", "--among", "gato", "piñones"],
        lambda m: m.fill("el [MASK]", among=["gato", "piñones"]),
    ),
    "score": (["score", TEXTS[3], "--variant", "word_l2r"], lambda m: m.score(TEXTS[3], variant="word_l2r")[0]),
    "minicons": (
        ["score", TEXTS[0], "--convention", "minicons"],
        lambda m: m.score(TEXTS[0], convention="minicons")[0],
    ),
    "embed": (["embed", *TEXTS, "--layers", "-1,0"], lambda m: m.embed(TEXTS, layers=(-1, 0))),
    "neighbors": (
        ["neighbors", TEXTS[0], "come", "--text", "text.txt", "-k", "3"],
        lambda m: m.neighbors(TEXTS[0], "come", "text.txt", k=3),
    ),
    "similarity": (["similarity", *TEXTS[:2], "--pooling", "cls"], lambda m: m.similarity(*TEXTS[:2], pooling="cls")),
    "word": (["similarity", *TEXTS[:2], "--word", "come"], lambda m: m.similarity(*TEXTS[:2], word="come")),
    "next-sentence": (["next-sentence", *TEXTS[:2]], lambda m: m.next_sentence(*TEXTS[:2])),
    "attend": (["attend", *TEXTS[:2], "--layer", "-1"], lambda m: m.attend(*TEXTS[:2], layers=[-1])),
}


@pytest.mark.parametrize("verb", ASKED)
def test_json_is_the_result_and_text_is_shown(verb):
    given, ask = ASKED[verb]
    told = vocablo(*given, "-m", "bert", "--json")
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == as_json(ask(api.load("bert")))
    shown = vocablo(*given, "-m", "bert")
    assert shown.code == 0
    assert shown.out.strip()
    assert not shown.out.startswith("{")


def test_what_is_shown():
    shown = vocablo("fill", MASKED, "-m", "bert", "-k", "2").out
    assert "mask 1" in shown
    assert "mask 2" in shown
    assert "filled from left to right" in shown
    assert "pseudo-log-likelihood (token)" in vocablo("score", "el pan", "-m", "bert").out
    assert "«come»" in vocablo("neighbors", TEXTS[0], "come", "--text", "text.txt", "-m", "bert").out


@pytest.mark.parametrize("model", ["bert", "gpt"])
def test_files_are_scored(model):
    done = vocablo("score", "--text", "text.txt", "-m", model, "--out", "scores.jsonl")
    assert (done.code, done.out) == (0, "")
    expected = [as_json(one) for one in api.load(model).score(TEXTS)]
    rows = [json.loads(line) for line in Path("scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["log_prob"] for row in rows] == pytest.approx([row["log_prob"] for row in expected], abs=1e-5)
    assert json.loads(vocablo("score", "--text", "text.txt", "-m", model, "--json").out)["results"] == rows
    lines = vocablo("score", "--text", "text.txt", "-m", model).out.splitlines()
    assert [line.split("tokens  ")[1] for line in lines] == TEXTS


def test_vectors_are_written():
    told = json.loads(
        vocablo("embed", "--text", "text.txt", "--out", "v.npy", "-m", "bert", "--normalize", "--json").out
    )
    assert (told["texts"], told["width"], told["normalize"], told["out"]) == (4, 16, True, "v.npy")
    np.testing.assert_allclose(np.load("v.npy"), api.load("bert").embed(TEXTS, normalize=True).vectors, atol=1e-6)
    assert vocablo("embed", *TEXTS, "--out", "w.npy", "-m", "bert", "--normalize").code == 0
    np.testing.assert_allclose(np.load("w.npy"), np.load("v.npy"), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["generate", "el", "-m", "bert"], ["generate asked of an encoder", "fill, score, embed"]),
        (["next", "el", "-m", "bert"], ["next asked of an encoder", "fill"]),
        (["perplexity", "--text", "text.txt", "-m", "bert"], ["perplexity asked of an encoder"]),
        (["fill", MASKED, "-m", "gpt"], ["fill asked of a model that reads from left to right", "next"]),
        (["embed", "el", "-m", "gpt"], ["embed asked of a model that reads from left to right"]),
        (["fill", "el gato", "-m", "bert"], ["no mask", "[MASK]"]),
        (["fill", MASKED, "-m", "states"], ["output layer", "embed"]),
        (["next-sentence", "el", "pan", "-m", "states"], ["next-sentence head"]),
        (["score", "el", "--end", "-m", "bert"], ["--end isn't for this kind", "--variant, --convention, --stride"]),
        (["score", "el", "--variant", "token", "-m", "gpt"], ["--variant isn't for this kind", "--end"]),
        (["score", "el", "--variant", "tokn", "-m", "bert"], ["'tokn'", "did you mean 'token'"]),
        (["score", "--text", "long.txt", "-m", "bert"], ["40 tokens and 30 fit", "--stride 15"]),
        (["score", "el", "--text", "text.txt", "-m", "bert"], ["one of them"]),
        (["score", "--text", "text.txt", "--out", "s.csv", "-m", "bert"], [".jsonl", "s.csv"]),
        (["embed", "pan " * 40, "-m", "bert"], ["40 tokens and 30 fit", "--window", "--truncate"]),
        (["embed", "--text", "text.txt", "-m", "bert"], ["--out"]),
        (["embed", "-m", "bert"], ["one of the two"]),
        (["embed", "el", "--layers", "x", "-m", "bert"], ["Layers are numbers", "'x'"]),
        (["embed", "el", "--layers", "7", "-m", "bert"], ["no layer 7"]),
        (["embed", "el", "--pooling", "men", "-m", "bert"], ["pooling", "mean"]),
        (["embed", "--text", "text.txt", "--out", "v.txt", "-m", "bert"], [".txt", ".npy"]),
        (["embed", "el", "--dtype", "int8", "-m", "bert"], ["int8", "bf16"]),
        (["neighbors", "el pan", "luna", "--text", "text.txt", "-m", "bert"], ["'luna' isn't in", "el, pan"]),
        (["neighbors", "el pan", "pan", "--text", "gone.txt", "-m", "bert"], ["gone.txt"]),
        (["attend", "el", "pan", "-m", "gpt"], ["--second isn't for this kind"]),
        (["attend", "pan " * 40, "-m", "bert"], ["40 tokens and 30 fit"]),
    ],
    ids=lambda value: " ".join(value)[:45] if value[-1] in ("bert", "gpt", "states") else "",
)
def test_questions_that_can_not_be_answered(given, words):
    refused(vocablo(*given), *words, early="long.txt" not in given)


DENSE, WORDS = "bert.encoder.layer.0.output.dense.weight", "bert.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(DENSE), ["they lack", DENSE]),
        (lambda tensors: tensors.update({"bert.new.weight": torch.zeros(3)}), ["they have", "bert.new.weight"]),
        (lambda tensors: tensors.update({DENSE: torch.zeros(3, 4)}), [DENSE, "[3, 4]", "[16, 64]"]),
        (lambda tensors: tensors.update({WORDS: tensors[WORDS][:-5].clone()}), [WORDS, "config.json asks for"]),
    ],
    ids=["missing", "extra", "shape", "vocabulary"],
)
def test_tensors_that_dont_fit_are_named(change, words, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree("bert", folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refused(vocablo("fill", MASKED, "-m", str(folder)), "model", *words)
    further = ["pretrain", "bert", "--from", str(folder), "--text", "text.txt", "--out", str(tmp_path / "new")]
    refused(vocablo(*further), *words)
    assert not (tmp_path / "new").exists()


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree("bert", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    words = ["pytorch_model.bin", "pickle", "BertForPreTraining.from_pretrained(FOLDER).save_pretrained(NEW)"]
    refused(vocablo("fill", MASKED, "-m", str(folder)), *words)
    refused(vocablo("pretrain", "bert", "--from", str(folder), "--text", "text.txt", "--out", "never"), *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--documents", "line"], ["documents of one sentence each", "--documents", "pretext.name=masked"]),
        (["--documents", "file"], ["is one document", "pretext.name=masked"]),
        (["pretext=masked", "model.embed.vocab=7"], ["tokenizer has", "vocabulary of 7", "don't belong together"]),
        (["--recipe", "bert-continued"], ["trains a model further", "--from"]),
    ],
    ids=["sentences", "document", "vocabulary", "recipe"],
)
def test_pretraining_that_can_not_be(given, words, tmp_path):
    Path("lines.txt").write_text("El gato come.\nLa luna brilla.\n" * 30, encoding="utf-8")
    start = ["pretrain", "bert", "--text", "lines.txt", "--size", "tiny", "context=24", "--out", str(tmp_path / "m")]
    refused(vocablo(*start, *given), *words, early=False)
    assert not (tmp_path / "m" / "run" / "state.json").exists(), "no run was begun"


def test_bfloat16_is_near():
    given = ["score", TEXTS[3], "-m", "bert", "--json"]
    exact, short = (json.loads(vocablo(*given, "--dtype", dtype).out)["log_prob"] for dtype in ("fp32", "bf16"))
    assert exact != short
    assert exact == pytest.approx(short, rel=0.03)
