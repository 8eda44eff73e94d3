"""Tiny Shakespeare by characters with nanoGPT's CPU settings, on several seeds.

    python bench/shakespeare.py --data input.txt

Published: 1.88 nats a character with 4 layers, 4 heads, 128 wide, 64 characters, batch 12, 2,000 steps, no dropout, as the
mean over 20 random batches of the last tenth. That estimate is made here in the same way from the finished model (the
best of the evaluations every 250 steps), and beside it stands the loss over that whole tenth: every character once, in
windows of 64, and once more with at least 32 characters before it.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch

import vocablo
from _harness import SHARED, need, options, report
from vocablo import checkpoint
from vocablo.contract import Tokens
from vocablo.data.store import Store
from vocablo.inference.reading import chain
from vocablo.training.material import hold_out
from vocablo.views.terminal import table

CONTEXT, BATCH, BATCHES, STRIDE = 64, 12, 20, 32


def estimate(model, held_out: Store, seed: int) -> float:
    """nanoGPT's: the mean loss of 20 random batches of 12 windows."""
    tokens = torch.from_numpy(np.asarray(held_out.tokens).astype(np.int64))
    rng = np.random.default_rng(seed)
    losses = []
    with torch.inference_mode():
        for _ in range(BATCHES):
            starts = rng.integers(len(tokens) - CONTEXT, size=BATCH)
            rows = torch.stack([tokens[start : start + CONTEXT + 1] for start in starts])
            states = model.forward(Tokens.of(rows[:, :-1])).states
            targets = rows[:, 1:].reshape(-1)
            losses.append(-float(model.target_log_probs(states, torch.arange(len(targets)), targets).mean()))
    return statistics.fmean(losses)


def main() -> None:
    chosen = options(__doc__, data=(str(SHARED / "tinyshakespeare" / "input.txt"), "the text"), seeds=(3, "runs"))
    text = need(Path(chosen.data))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(chosen.seeds):
            out = Path(folder) / str(seed)
            result = vocablo.pretrain(
                "gpt", recipe="shakespeare-char", text=text, out=out, overrides=[f"train.seed={seed}"]
            )
            loaded = checkpoint.load(out)
            held_out = hold_out(Store.open(out / "run" / "store" / "train"), 0.1)[1]
            assert held_out is not None
            tokens = np.asarray(held_out.tokens).astype(np.int64)
            strided = -float(chain(loaded.model, [tokens], STRIDE)[0].mean())
            run = result.seeds[0]
            rows.append((seed, estimate(loaded.model, held_out, seed), run.validation_loss, strided, run.seconds))
    means = ("mean", *(statistics.fmean(row[place] for row in rows) for place in range(1, 5)))
    names = ("seed", "20 random batches", "all, windows of 64", "all, 32 before", "seconds")
    report(
        "shakespeare",
        table(names, [(str(row[0]), *(f"{value:.4f}" for value in row[1:])) for row in [*rows, means]]),
        {"parameters": result.parameters, "runs": [dict(zip(names, row, strict=True)) for row in [*rows, means]]},
        chosen.out,
    )


if __name__ == "__main__":
    main()
