"""What the experiments share: the grammar's text, small models with fresh weights, and how they learn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from vocablo.base.progress import Progress
from vocablo.base.random import seed_for
from vocablo.data.grammar import Grammar
from vocablo.data.store import Store
from vocablo.models import transformer
from vocablo.pretexts import causal
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings

SENTENCES, HELD_OUT, WIDTH = 30_000, 1_000, 64
POSITIONS = {
    "none": {"kind": "none"},
    "learned": {"kind": "learned"},
    "sinusoidal": {"kind": "sinusoidal"},
    "rotary": {"kind": "rotary"},
}
SPECIALS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}  # an encoder's
Outcome = tuple[str, str, tuple[str, ...], Sequence[tuple[Any, ...]], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Curve:
    """How one variant trained: (step, loss) points smoothed over ten steps, and the norm of each layer's first gradient."""

    points: tuple[tuple[float, float], ...]
    first_gradients: tuple[float, ...]  # none of a model without ``layers``


@functools.cache
def text(seed: int) -> tuple[Tokenizer, Store, Store]:
    """A word tokenizer, and sentences of the grammar to train on and to hold out."""
    grammar = Grammar()
    lines = list(islice(grammar.text(seed, SENTENCES), SENTENCES))
    unseen = list(islice(grammar.text(seed + 1, HELD_OUT), HELD_OUT))
    tokenizer = Tokenizer.train("word", [*lines, " ".join(grammar.words)])
    return tokenizer, Store.from_documents(lines, tokenizer), Store.from_documents(unseen, tokenizer)


def small(family: str, vocab: int, seed: int, changes: dict[str, Any], *, context: int) -> Any:
    """A small Transformer with fresh weights that depend on the seed alone.

    They start from N(0, 1 / width): with GPT-2's 0.02, sinusoids of size 1 would drown the words for long.
    """
    common: dict[str, Any] = {
        "stack": {"layers": 2, "width": WIDTH},
        "attention": {"heads": 4},
        "dropout": 0.0,
        "init": {"std": WIDTH**-0.5},
    }
    merged = {key: {**common.get(key, {}), **value} for key, value in changes.items()}
    torch.manual_seed(seed_for(seed, "init"))
    return transformer.build(transformer.config_for(family, "tiny", vocab, context, common | merged))


def causal_pretext(store: Store, seed: int, context: int) -> causal.Pretext:
    return causal.Pretext(store, causal.Config(), seed=seed, batch=32, micro=None, context=context)


def learn(model: Any, pretext: Any, steps: int, seed: int, title: str, quiet: bool, lr: float = 2e-3) -> Curve:
    """Train for ``steps`` steps."""
    gradients: list[float] = []

    def first(_: Any, __: Any, ___: Any) -> None:
        if not gradients:
            norms = [
                [p.grad.norm() for p in layer.parameters() if p.grad is not None]
                for layer in getattr(model, "layers", ())
            ]
            gradients.extend(float(torch.stack(norm).norm()) for norm in norms)

    settings = TrainSettings(steps=steps, batch=pretext.batch, lr=lr, warmup=0.1, seed=seed)
    trainer = Trainer(model, pretext, settings)
    hook = trainer.optimizer.register_step_pre_hook(first)
    losses: list[float] = []
    with Progress(title, steps, "steps", quiet=quiet) as progress:
        for step in trainer:
            losses.append(step.loss)
            progress.advance(1, f"loss {step.loss:.3f}")
    hook.remove()
    model.eval()
    smooth = [
        (float(i + 1), sum(losses[max(0, i - 9) : i + 1]) / min(10, i + 1))
        for i in range(0, steps, max(1, steps // 100))
    ]
    return Curve(tuple(smooth), tuple(gradients))


@torch.inference_mode()
def held_out(model: Any, pretext: Any, store: Store) -> float:
    """Mean loss of a held-out store's tokens, in nats."""
    total, count = 0.0, 0
    for batch in pretext.validation(store):
        term = pretext.terms(model, batch, None)[0]["causal"]
        total, count = total + float(term.total), count + term.count
    return total / count
