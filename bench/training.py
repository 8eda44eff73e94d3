"""A causal training step of the same GPT: ours against transformers' model in a plain loop and in its Trainer.

    python bench/training.py

6 layers, 384 wide, 6 heads, a vocabulary of 8,000 and 256 positions; 16 sequences a step, AdamW, gradients clipped. All begin
from the same weights and see the same batches. First, without dropout, the losses of 20 steps are compared one by one. Then
steps are timed in turn, in float32 and with bfloat16 autocast, without dropout and with 0.1; and the peak memory of each
is taken in a process of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import torch

from _harness import in_turn, matrix_rate, options, report, timed
from vocablo import checkpoint
from vocablo.models import transformer
from vocablo.pretexts import causal
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.terminal import table

VOCAB, CONTEXT, BATCH = 8000, 256, 16
LR, CLIP, DECAY, BETAS = 1e-3, 1.0, 0.1, (0.9, 0.99)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Stream:
    """A token stream as ``causal`` reads it: words drawn by Zipf's law."""

    tokens: np.ndarray
    documents: np.ndarray
    end_id: int = 0


def stream() -> Stream:
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.3, 400_000), VOCAB - 1).astype(np.uint16)
    tokens[-1] = 0
    return Stream(tokens, np.array([0, len(tokens)]))


def our_model(dropout: float) -> torch.nn.Module:
    torch.manual_seed(0)
    return transformer.build(transformer.config_for("gpt", "small", VOCAB, CONTEXT, {"dropout": dropout}))


def pretext() -> causal.Pretext:
    return causal.Pretext(stream(), causal.Config(), seed=0, batch=BATCH, micro=None, context=CONTEXT)


def ours(dropout: float, dtype: str) -> Callable[[], float]:
    """One step a call; returns its loss."""
    settings = TrainSettings(
        steps=10**6, batch=BATCH, lr=LR, schedule="constant", warmup=0, weight_decay=DECAY, betas=BETAS, clip=CLIP, dtype=dtype
    )  # fmt: skip
    steps = iter(Trainer(our_model(dropout), pretext(), settings))
    return lambda: next(steps).loss


def their_model(dropout: float) -> Any:
    from transformers import GPT2LMHeadModel

    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(Path(folder), our_model(dropout))
        return GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa").train()


def groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]


def batches() -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    source = pretext()

    def make(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        (batch,) = source.micro_batches(step)
        return batch.tokens.ids.view(BATCH, -1), batch.targets["causal"].value.view(BATCH, -1)

    return make


def plain_loop(dropout: float, dtype: str) -> Callable[[], float]:
    """transformers' model in the loop that its users write: the fused optimizer, labels of its own shape."""
    model, make, step = their_model(dropout), batches(), 0
    optimizer = torch.optim.AdamW(groups(model), lr=LR, betas=BETAS, fused=True)

    def call() -> float:
        nonlocal step
        inputs, targets = make(step)
        step += 1
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = model(input_ids=inputs, labels=targets, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return call


def trainer(dropout: float, dtype: str, folder: str, steps: int) -> Callable[[], float]:
    """transformers' Trainer; a call trains ``steps`` steps and returns the seconds of one."""
    import transformers
    from transformers import TrainingArguments

    transformers.logging.set_verbosity_error()
    make = batches()
    data = [make(step) for step in range(steps)]
    rows = [
        {"input_ids": inputs[row], "labels": inputs[row], "shift_labels": targets[row]}
        for inputs, targets in data
        for row in range(BATCH)
    ]
    model = their_model(dropout)

    def call() -> float:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, max_steps=steps, learning_rate=LR, lr_scheduler_type="constant",
            weight_decay=DECAY, adam_beta2=BETAS[1], max_grad_norm=CLIP, optim="adamw_torch_fused", bf16=dtype == "bf16",
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            dataloader_drop_last=True, remove_unused_columns=False,
        )  # fmt: skip
        hugging = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
        return timed(hugging.train) / steps

    return call


PEERS = {"ours": ours, "transformers": plain_loop}


def losses(steps: int) -> list[tuple[float, float]]:
    one, other = ours(0.0, "fp32"), plain_loop(0.0, "fp32")
    return [(one(), other()) for _ in range(steps)]


def memory(name: str, dropout: float, dtype: str) -> float:
    """Peak MiB of a process that makes three steps (weights, optimizer, activations), above what its libraries take."""
    code = (
        "import torch, training, transformers.models.gpt2.modeling_gpt2\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "def told(key):\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith(key))\n"
        "torch.randn(64, 64) @ torch.randn(64, 64)\n"
        "libraries = told('VmRSS')\n"
        f"step = training.PEERS[{name!r}]({dropout}, {dtype!r})\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"  # the peak is counted from here, not from loading
        "[step() for _ in range(3)]\n"
        "print((told('VmHWM') - libraries) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    chosen = options(__doc__, rounds=(7, "timed rounds of two steps"), check=(20, "steps whose losses are compared"))
    pairs = losses(chosen.check)
    gap = max(abs(one - other) for one, other in pairs)
    flops = our_model(0.0).flops_per_token(CONTEXT)
    rates = {dtype: matrix_rate(DTYPES[dtype], (BATCH * CONTEXT, 384, 1536)) for dtype in DTYPES}
    rows, found = [], []
    for dtype in DTYPES:
        for dropout in (0.0, 0.1):
            with tempfile.TemporaryDirectory() as folder:
                steps = {name: make(dropout, dtype) for name, make in PEERS.items()}
                calls = {name: (lambda step=step: timed(lambda: (step(), step())) / 2) for name, step in steps.items()}
                calls["Trainer"] = trainer(dropout, dtype, folder, 2)
                in_turn(calls, 1)
                times = in_turn(calls, chosen.rounds)
            peak = {name: memory(name, dropout, dtype) for name in PEERS}
            middle = {name: statistics.median(values) for name, values in times.items()}
            rate = BATCH * CONTEXT / middle["ours"]
            one = {
                "dtype": dtype,
                "dropout": dropout,
                "tokens/s": {name: BATCH * CONTEXT / value for name, value in middle.items()},
                "ratio": {name: middle[name] / middle["ours"] for name in ("transformers", "Trainer")},
                "share of the matrix rate": rate * flops / rates[dtype],
                "peak MiB": peak,
                "peak ratio": peak["ours"] / peak["transformers"],
            }
            found.append(one)
            rows.append(
                (
                    dtype, str(dropout), *(f"{one['tokens/s'][name]:,.0f}" for name in middle),
                    *(f"{value:.2f}x" for value in one["ratio"].values()),
                    f"{one['share of the matrix rate']:.0%}", f"{peak['ours']:.0f}", f"{peak['transformers']:.0f}",
                    f"{one['peak ratio']:.2f}",
                )
            )  # fmt: skip
    header = (
        "dtype", "dropout", "ours tok/s", "loop", "Trainer", "vs loop", "vs Trainer", "of matmul rate", "MiB ours", "MiB loop", "ratio",
    )  # fmt: skip
    text = table(header, rows) + (
        f"\n  losses of {len(pairs)} steps without dropout differ by at most {gap:.1e}; "
        + ", ".join(f"{dtype} matrix product {rate / 1e9:,.0f} GFLOP/s" for dtype, rate in rates.items())
        + f"; {flops / 1e6:.1f} MFLOP a token"
    )
    result = {"largest loss difference": gap, "matrix rate": rates, "flops per token": flops, "rows": found}
    report("training", text, result, chosen.out)


if __name__ == "__main__":
    main()
