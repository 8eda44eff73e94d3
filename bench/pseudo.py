"""Pseudo-log-likelihood of sentences: ours against minicons, on the same model.

    python bench/pseudo.py                        # mini: 4 layers, 256 wide
    python bench/pseudo.py --size base --sentences 32 --rounds 2

Sentences of BLiMP, drawn from all its paradigms; a BERT with random weights and a WordPiece vocabulary trained on the
sentences, its token table and output layer as large as published BERTs have them (``--vocab``). Both of minicons' variants: ``original`` (our ``token``) and ``within_word_l2r`` (our ``word_l2r``). minicons
reads one batch a call, so it is given several sizes of batch and the fastest counts. All scores of tokens are compared.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import torch

from _harness import SHARED, in_turn, options, packed_texts, report, timed
from vocablo import checkpoint
from vocablo.api import load
from vocablo.models import transformer
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.terminal import table

VARIANTS = {"original": "token", "within_word_l2r": "word_l2r"}
BATCHES = (8, 32)


def sentences(archive: Path) -> list[str]:
    """All sentences, good and bad, in an order that is the same each time."""
    found = []
    for paradigm in packed_texts(archive, ".jsonl"):
        for line in paradigm.splitlines():
            pair = json.loads(line)
            found += [pair[side] for side in ("sentence_good", "sentence_bad") if side in pair]  # a summary lies beside
    random.Random(0).shuffle(found)
    return found


def folder_of(size: str, vocab: int, texts: list[str], place: Path) -> Path:
    """A model with random weights in the layout that both sides read; it may have more words than its tokenizer uses."""
    tokenizer = Tokenizer.train("wordpiece", texts, vocab=3000, lowercase=True)
    torch.manual_seed(0)
    checkpoint.save(
        place / size,
        transformer.build(transformer.config_for("bert", size, max(vocab, tokenizer.size), 128, {})),
        tokenizer,
    )
    return place / size


def minicons_of(folder: Path) -> Any:
    from minicons import scorer

    theirs = scorer.MaskedLMScorer(str(folder), "cpu")
    if not hasattr(theirs.tokenizer, "batch_encode_plus"):
        theirs.tokenizer.batch_encode_plus = theirs.tokenizer.__call__  # its name before transformers 5
    return theirs


def scores_of(theirs: Any, texts: list[str], metric: str, batch: int) -> list[list[float]]:
    told: list[list[float]] = []
    for at in range(0, len(texts), batch):
        told += [[value for _, value in one] for one in theirs.token_score(texts[at : at + batch], PLL_metric=metric)]
    return told


def measure(folder: Path, texts: list[str], metric: str, rounds: int) -> dict[str, Any]:
    theirs, ours = minicons_of(folder), load(folder)
    score = lambda: ours.score(texts, variant=VARIANTS[metric], convention="minicons")  # noqa: E731
    told = scores_of(theirs, texts, metric, BATCHES[0])
    gap = max(
        float(np.abs(np.array(one.log_probs, dtype=float) - np.array(other)).max())
        for one, other in zip(score(), told, strict=True)
    )
    calls = {"ours": lambda: timed(score)}
    for batch in BATCHES:
        calls[f"minicons, {batch}"] = lambda batch=batch: timed(lambda: scores_of(theirs, texts, metric, batch))
    times = {name: statistics.median(values) for name, values in in_turn(calls, rounds).items()}
    best = min(value for name, value in times.items() if name != "ours")
    rates = {name: len(texts) / value for name, value in times.items()}
    return {"variant": metric, "sentences/s": rates, "ratio": best / times["ours"], "largest difference": gap}


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED / "blimp.tar.xz"), "the packed BLiMP"), size=("mini", "mini or base"),
        sentences=(256, "that are scored"), rounds=(3, "timed rounds"),
        vocab=(30_522, "rows of the token table, as published BERTs have them"),
    )  # fmt: skip
    texts = sentences(Path(chosen.data))
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(chosen.size, chosen.vocab, texts, Path(scratch))
        found = [measure(folder, texts[: chosen.sentences], metric, chosen.rounds) for metric in VARIANTS]
    rows = [
        (one["variant"], *(f"{rate:.1f}" for rate in one["sentences/s"].values()), f"{one['ratio']:.2f}x", f"{one['largest difference']:.1e}")
        for one in found
    ]  # fmt: skip
    header = (
        "variant",
        "ours, sentences/s",
        *(f"minicons, batches of {b}" for b in BATCHES),
        "against the better",
        "difference",
    )
    result = {"size": chosen.size, "sentences": chosen.sentences, "rows": found}
    report(f"pseudo_{chosen.size}", f"  BERT-{chosen.size}, fp32\n" + table(header, rows), result, chosen.out)


if __name__ == "__main__":
    main()
