"""Feed-forward attention on long additions and multiplications: table 1 of Raffel & Ellis (2016).

    python bench/raffel.py
    python bench/raffel.py --longest 10000 --padding masked

Sequences of random numbers, two of which are marked: their sum (or product) is to be told. The model has no recurrence,

    h_t = LReLU(W x_t + b)      c = sum_t alpha_t h_t (nn/pooling.py), or their unweighted mean      y = LReLU(V LReLU(U c + d) + e)

with 100 units, 10,602 parameters (10,501 with the mean), weights from N(0, 1 / sqrt(fan in)), Adam, squared errors, 100
sequences a step. An epoch is 1,000 steps on fresh sequences; training ends when all of 1,000 fixed test sequences are told to
0.04, or after ``--epochs``. Of several rates that which ends first is printed, as in the paper.

Lengths are drawn from T0 to 1.1 T0. The authors pad with zeros to the longest length and let these steps into the softmax and
the mean (``--padding seen``, the default, to be like theirs); ``masked`` leaves them out.
Published (epochs, or what is told after 100): attention 1, 1, 1, 1 for additions of T0 = 50, 100, 500, 1000 and 1, 2, 4, 2
for multiplications; mean 1, 1, 1, 2 and 2, 2, 8, 33.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _harness import options, report
from vocablo.contract import Fences
from vocablo.nn.pooling import FeedForwardAttention, pool
from vocablo.views.terminal import table

UNITS, BATCH, STEPS, TESTED, NEAR = 100, 100, 1000, 1000, 0.04
LENGTHS = (50, 100, 500, 1000, 5000, 10000)
PUBLISHED = {
    ("add", "attention"): ("1", "1", "1", "1", "2", "3"),
    ("multiply", "attention"): ("1", "2", "4", "2", "15", "6"),
    ("add", "mean"): ("1", "1", "1", "2", "8", "17"),
    ("multiply", "mean"): ("2", "2", "8", "33", "89.8 %", "80.8 %"),
}


class Told(nn.Module):
    """The model of section 2.1: states, one vector of them, a number."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.states, self.hidden, self.out = nn.Linear(2, UNITS), nn.Linear(UNITS, UNITS), nn.Linear(UNITS, 1)
        self.pooling = FeedForwardAttention(UNITS) if pooling == "attention" else None
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def forward(self, x: Tensor, fences: Fences) -> Tensor:
        """The number of each sequence, [B]; ``x`` [N, 2] are values and marks."""
        states = F.leaky_relu(self.states(x))
        whole = pool(states, fences, "mean") if self.pooling is None else self.pooling(states, fences)[0]
        return F.leaky_relu(self.out(F.leaky_relu(self.hidden(whole)))).squeeze(1)


@dataclass(frozen=True)
class Task:
    """Draws sequences as the authors' code does. ``masked``: what stands behind a sequence isn't read."""

    name: str
    length: int
    masked: bool

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Fences, Tensor]:
        """Values and marks [N, 2], the sequences, and what is to be told [B]."""
        longest = ceil(1.1 * self.length)
        lengths = rng.integers(self.length, longest, count)
        x = np.zeros((count, longest, 2), dtype=np.float32)
        x[..., 0] = rng.uniform(-1 if self.name == "add" else 0, 1, (count, longest))
        x[:, 0, 1] = -1
        rows = np.arange(count)
        x[rows, lengths - 1, 1] = -1
        first = rng.integers(1, 10, count)
        second = rng.integers(1, longest // 2 - 1, count)
        second += second == first
        x[rows, first, 1] = x[rows, second, 1] = 1
        one, other = x[rows, first, 0], x[rows, second, 0]
        told = 0.5 + (one + other) / 4 if self.name == "add" else one * other
        inside = np.arange(longest) < lengths[:, None]
        x *= inside[..., None]
        if self.masked:
            return torch.from_numpy(x[inside]), Fences.of(lengths.tolist()), torch.from_numpy(told)
        return torch.from_numpy(x).flatten(0, 1), Fences.of([longest] * count), torch.from_numpy(told)


def right(model: Told, tests: list[tuple[Tensor, Fences, Tensor]]) -> float:
    """The share of test sequences that are told to 0.04."""
    with torch.no_grad():
        return float(np.mean([((model(x, fences) - told).abs() < NEAR).float().mean() for x, fences, told in tests]))


def learn(task: Task, pooling: str, rate: float, epochs: int, seed: int) -> tuple[int, float]:
    """Epochs made, and the share told after the last."""
    torch.manual_seed(seed)
    model = Told(pooling)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    rng = np.random.default_rng(seed + 1)
    tests = [task.draw(BATCH, np.random.default_rng((seed, part))) for part in range(TESTED // BATCH)]
    share = 0.0
    for epoch in range(1, epochs + 1):
        for _ in range(STEPS):
            x, fences, told = task.draw(BATCH, rng)
            optimizer.zero_grad()
            F.mse_loss(model(x, fences), told).backward()
            optimizer.step()
        share = right(model, tests)
        print(f"  {task.name} {task.length} {pooling} rate {rate:g}: epoch {epoch}, {share:.1%}", flush=True)
        if share == 1:
            return epoch, share
    return epochs, share


def main() -> None:
    chosen = options(
        __doc__,
        longest=(1000, "T0 up to this"),
        epochs=(100, "at most"),
        rates=("0.003,0.001,0.01,0.0003", "tried one after the other, each only for as many epochs as the best so far"),
        padding=("seen", "seen, as in the authors' code, or masked"),
        tasks=("add,multiply", "which"),
        poolings=("attention,mean", "which"),
        seed=(0, "of weights and sequences"),
    )
    if chosen.padding not in ("seen", "masked"):
        raise SystemExit(f"--padding is seen or masked, not {chosen.padding}.")
    counts = {pooling: sum(one.numel() for one in Told(pooling).parameters()) for pooling in ("attention", "mean")}
    print(
        f"parameters: attention {counts['attention']:,}, mean {counts['mean']:,}; padding {chosen.padding}", flush=True
    )
    rows: list[tuple[Any, ...]] = []
    result: dict[str, Any] = {"parameters": counts, "padding": chosen.padding, "seed": chosen.seed, "cells": []}
    for name in chosen.tasks.split(","):
        for pooling in chosen.poolings.split(","):
            for place, length in enumerate(LENGTHS):
                if length > chosen.longest:
                    break
                begun, best = time.perf_counter(), (chosen.epochs + 1, 0.0, 0.0)
                for rate in map(float, chosen.rates.split(",")):
                    task = Task(name, length, chosen.padding == "masked")
                    epochs, share = learn(task, pooling, rate, min(chosen.epochs, best[0]), chosen.seed)
                    if share > best[1] or (share == best[1] and epochs < best[0]):
                        best = (epochs if share == 1 else chosen.epochs, share, rate)
                    if best[:2] == (1, 1.0):
                        break
                seconds = time.perf_counter() - begun
                ours = str(best[0]) if best[1] == 1 else f"{best[1]:.1%}"
                rows.append(
                    (name, pooling, length, PUBLISHED[name, pooling][place], ours, f"{best[2]:g}", f"{seconds:.0f}")
                )
                cell = {"task": name, "pooling": pooling, "length": length, "epochs": best[0], "share": best[1]}
                result["cells"].append(cell | {"rate": best[2], "seconds": seconds})
    drawn = table(("task", "pooling", "T0", "published", "ours", "rate", "seconds"), rows)
    head = f"epochs until all is told, or the share told after {chosen.epochs}; padding {chosen.padding}, seed {chosen.seed}"
    report("raffel", f"{head}\n{drawn}", result, chosen.out)


if __name__ == "__main__":
    main()
