"""What denoising pre-trains from text: transformers opens it and has our logits; here it is fine-tuned and asked."""

import numpy as np
import pytest
import torch
import transformers

import vocablo
from vocablo import checkpoint
from vocablo.contract import Tokens
from vocablo.tasks._pairs import PairReader
from vocablo.tasks._reading import ReadSettings

WORDS = "el la gato gata come pan queso mira luna noche cantó ñandú perro camina despacio contento".split()  # noqa: SIM905
SMALL = ("model.stack.width=16", "model.stack.layers=1", "model.attention.heads=2", "context=24", "train.batch=4")


@pytest.fixture(scope="module", params=["bart", "t5"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    draws = np.random.default_rng(0)
    lines = [" ".join(draws.choice(WORDS, 6)) + ". " + " ".join(draws.choice(WORDS, 5)) + "." for _ in range(200)]
    (place / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (place / "pairs.csv").write_text("larga,corta\n" + "".join(f"{one},{one.split()[0]}\n" for one in lines), "utf-8")
    vocablo.pretrain(
        request.param, text=place / "text.txt", data={"documents": "line"}, out=place / "model", steps=3, quiet=True,
        overrides=SMALL,
    )  # fmt: skip
    return place


@torch.no_grad()
def test_transformers_opens_it_and_has_our_logits(folder):
    loaded = checkpoint.load(folder / "model")
    model, tokenizer = loaded.model, loaded.tokenizer
    source = tokenizer.encode("el gato come. la luna mira.").ids
    target = [*model.start, *tokenizer.encode("la gata come").ids]
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder / "model").eval()
    assert theirs.config.decoder_start_token_id == target[0]
    wanted = theirs(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]
    found = model.logits(model(Tokens.of([target]), Tokens.of([source])).states)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def test_transformers_reads_a_source_as_we_do_and_learns_from_labels(folder):
    loaded = checkpoint.load(folder / "model")
    model, tokenizer = loaded.model, loaded.tokenizer
    reader = PairReader(model, tokenizer, ReadSettings())
    ids = {text: tokenizer.encode(text).ids for text in ("el gato come.", "la gata come")}
    (source, _), (target, _) = (
        reader.source(ids["el gato come."], "here")[0],
        reader.target(ids["la gata come"], "here"),
    )
    theirs = transformers.AutoTokenizer.from_pretrained(folder / "model")
    assert theirs("el gato come.").input_ids == source
    labels = theirs(text_target="la gata come").input_ids
    assert labels == target[len(model.start) :]
    learns = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder / "model").eval()
    loss = learns(input_ids=torch.tensor([source]), labels=torch.tensor([labels])).loss
    states = model(Tokens.of([target[:-1]]), Tokens.of([source])).states
    ours = -model.target_log_probs(states, torch.arange(len(labels)), torch.tensor(labels)).mean()
    torch.testing.assert_close(loss, ours, rtol=0, atol=2e-5)


@pytest.mark.parametrize("task", ["summarize", "translate"])
def test_it_is_fine_tuned_and_asked(folder, task, tmp_path):
    vocablo.finetune(
        task, model=folder / "model", train=folder / "pairs.csv", columns={"text": "larga", "label": "corta"},
        fraction=0.2, out=tmp_path / "tuned", quiet=True, overrides=["train.epochs=1"],
    )  # fmt: skip
    (written,) = getattr(vocablo.load(tmp_path / "tuned"), task)("el gato come")
    assert isinstance(written.output, str)
    assert np.isfinite(written.log_prob)
