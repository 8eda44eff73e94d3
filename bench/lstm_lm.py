"""Training of an LSTM language model: our loop against the plain one of PyTorch's word language models, of the same shape.

    python bench/lstm_lm.py
    python bench/lstm_lm.py --sizes large

Zaremba's small shape (2 x 200 units, 20 positions) and his medium one (2 x 650, 35 positions, dropout 0.5), 10,000 words, 20
parallel streams, SGD with clipping. The peer is written here as the examples of PyTorch have it: nn.Embedding, nn.LSTM,
nn.Linear, cross_entropy, clip_grad_norm_, the state detached from step to step. Without dropout all begin from the same weights and see the
same batches, and the losses of 20 steps are compared one by one. Then steps are timed in turn, in float32 and with bfloat16
autocast (the peer too). Words are those of Penn Treebank where it is there, else drawn by Zipf's law.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _harness import SHARED, in_turn, medians, options, report, timed
from vocablo.contract import Batch
from vocablo.data.readers import read_documents
from vocablo.data.store import Store
from vocablo.models import rnn
from vocablo.pretexts import causal
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.terminal import table

VOCAB, STREAMS = 10_000, 20
SHAPES = {"small": (200, 20, 0.0, 0.1), "medium": (650, 35, 0.5, 0.05), "large": (1500, 35, 0.65, 0.04)}


class Plain(nn.Module):
    """The model of PyTorch's example."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(VOCAB, width)
        self.rnn = nn.LSTM(width, width, 2, dropout=dropout)
        self.decoder = nn.Linear(width, VOCAB)

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = self.rnn(self.drop(self.encoder(ids)), state)
        return self.decoder(self.drop(output)).flatten(0, 1), state

    def take(self, ours: Any) -> None:
        """The weights of our model."""
        self.encoder.load_state_dict(ours.tokens.state_dict())
        self.decoder.load_state_dict(ours.head.state_dict())
        for number, layer in enumerate(ours.stack.layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                self.rnn.get_parameter(f"{name}_l{number}").data.copy_(layer.get_parameter(f"{name}_l0"))


class PlainLoop:
    """Its training loop over our batches, whose streams all have one length until the end of an epoch."""

    def __init__(self, model: Plain, pretext: causal.Pretext, settings: TrainSettings) -> None:
        self.model, self.pretext, self.settings = model.train(), pretext, settings
        self.optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)
        self.state: tuple[Tensor, Tensor] | None = None
        self.done = 0

    def step(self) -> float:
        """One step; its loss."""
        (batch,) = self.pretext.micro_batches(self.done % (self.pretext.steps_per_epoch - 1))
        ids, told = (_times(one, batch) for one in (batch.tokens.ids, batch.targets["causal"].value))
        width = self.model.encoder.embedding_dim
        state = self.state or (torch.zeros(2, STREAMS, width), torch.zeros(2, STREAMS, width))
        half = self.settings.dtype == "bf16"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits, state = self.model(ids, state)
        loss = F.cross_entropy(logits.float(), told.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip or 1.0)
        self.optimizer.step()
        self.state = (state[0].detach().float(), state[1].detach().float())
        self.done += 1
        return float(loss.detach())


def _times(flat: Tensor, batch: Batch) -> Tensor:
    """[T, B] of values that lie stream after stream."""
    return flat.view(batch.tokens.fences.count, -1).t().contiguous()


def words(data: Path) -> Store | Any:
    """Penn Treebank as a store, or words drawn at random."""
    path = data / "ptb.train.txt"
    if path.exists():
        texts = [one.text for one in read_documents([path], documents="line")]
        return Store.from_documents(texts, Tokenizer.train("word", texts, split="whitespace"))
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.3, 400_000), VOCAB - 1).astype(np.uint16)
    return type("Words", (), {"tokens": tokens, "documents": np.array([0, len(tokens)]), "end_id": 0})()


def peers(store: Any, shape: str, dtype: str, dropout: float) -> dict[str, Callable[[], float]]:
    """A step of each, from the same weights; each gives its loss."""
    width, context, _, uniform = SHAPES[shape]
    changes = {
        "embed": {"width": width},
        "stack": {"width": width, "layers": 2, "uniform": uniform, "dropout": dropout},
    }
    torch.manual_seed(0)
    model = rnn.build(rnn.config_for("lstm", "small", VOCAB, context, changes))
    plain = Plain(width, dropout)
    plain.take(model)
    settings = TrainSettings(
        steps=100_000, batch=STREAMS, optimizer="sgd", lr=1.0 * context, clip=5 / context, weight_decay=0, warmup=0,
        schedule="constant", dtype=dtype,
    )  # fmt: skip
    pretext = causal.Pretext(store, causal.Config(order="carried"), seed=0, batch=STREAMS, micro=None, context=context)
    loop, ours = PlainLoop(plain, pretext, settings), iter(Trainer(model, pretext, settings))
    return {"ours": lambda: next(ours).loss, "plain": loop.step}


def main() -> None:
    chosen = options(
        __doc__,
        data=(str(SHARED / "ptb_mikolov"), "folder of ptb.train.txt"),
        sizes=("small,medium", "small, medium, large"),
        rounds=(15, "steps timed of each"),
    )
    store = words(Path(chosen.data))
    rows: list[tuple[Any, ...]] = []
    result: dict[str, Any] = {"losses": {}, "cells": []}
    for shape in chosen.sizes.split(","):
        width, context, dropout, _ = SHAPES[shape]
        both = peers(store, shape, "fp32", 0.0)
        losses = [[both[name]() for name in ("ours", "plain")] for _ in range(20)]
        worst = max(abs(one - other) for one, other in losses)
        result["losses"][shape] = {"greatest difference of 20 steps": worst, "last": losses[-1]}
        print(f"{shape}: the losses of 20 steps without dropout differ by {worst:.1e} at most", flush=True)
        usual = 0.0
        for dtype in ("fp32", "bf16"):
            both = peers(store, shape, dtype, dropout)
            in_turn(both, 2)
            turns = in_turn({name: partial(timed, step) for name, step in both.items()}, chosen.rounds)
            ours, plain = (STREAMS * context / seconds for seconds in medians(turns).values())
            usual = usual or plain
            rows.append(
                (shape, width, dtype, f"{ours:,.0f}", f"{plain:,.0f}", f"{ours / plain:.2f}", f"{ours / usual:.2f}")
            )
            result["cells"].append({"shape": shape, "dtype": dtype, "ours": ours, "plain": plain, "plain fp32": usual})
    head = ("shape", "width", "dtype", "ours, words/s", "plain, words/s", "ratio", "to plain in fp32")
    report("lstm_lm", table(head, rows), result, chosen.out)


if __name__ == "__main__":
    main()
