"""Residual connections, normalisation and feed-forward layers each do something for training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vocablo.evaluation.claims._small import Outcome, causal_pretext, held_out, learn, small, text
from vocablo.nn.layers import Layer
from vocablo.views.svg import Series, curves

ABOUT = "what residuals, normalisation and feed-forward layers do"
STEPS = 400


class Nothing(nn.Module):
    """A part that adds nothing to its residual branch."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class WithoutResiduals(Layer):
    """A layer whose parts replace what they read instead of adding to it."""

    def forward(self, x: Tensor, mix: Any, rows: Tensor | None = None) -> Tensor:
        return self.feed_forward_norm(self.feed_forward(self.attention_norm(mix(self.attention, x))))


def _without_norms(model: Any) -> None:
    for layer in model.layers:
        layer.attention_norm = layer.feed_forward_norm = nn.Identity()


def _without_feed_forward(model: Any) -> None:
    for layer in model.layers:
        layer.feed_forward = Nothing()


def _without_residuals(model: Any) -> None:
    for layer in model.layers:
        layer.__class__ = WithoutResiduals


VARIANTS: dict[str, Callable[[Any], None]] = {
    "whole": lambda model: None,
    "no residuals": _without_residuals,
    "no normalisation": _without_norms,
    "no feed-forward": _without_feed_forward,
}


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """Six layers, each time without one of the layer's parts."""
    tokenizer, store, unseen = text(seed)
    rows, losses, gradients = [], [], []
    for name, change in VARIANTS.items():
        model = small(
            "gpt", tokenizer.size, seed, {"stack": {"layers": 6}, "norm": {"place": "post", "final": False}}, context=32
        )
        change(model)
        pretext = causal_pretext(store, seed, 32)
        curve = learn(model, pretext, steps, seed, f"parts: {name}", quiet)
        norms = curve.first_gradients
        rows.append((name, f"{held_out(model, pretext, unseen):.3f}", f"{norms[0]:.1e}", f"{norms[-1]:.1e}"))
        losses.append(Series(name, curve.points))
        gradients.append(Series(name, tuple((float(i + 1), math.log10(max(g, 1e-12))) for i, g in enumerate(norms))))
    return (
        "Conexiones residuales, normalización y feed-forward: what each does for the loss, and for the gradient that reaches "
        "the first layers.",
        f"Post-norm decoders of 6 layers, 64 wide, {steps} steps with the same text; gradients are those of the first "
        "step, as the norm over a layer's parameters.",
        ("layer", "held-out loss", "gradient, layer 1", "gradient, layer 6"),
        rows,
        {
            "Loss": curves(losses, x="step", y="nats"),
            "First gradient by layer": curves(gradients, x="layer", y="log10 of its norm"),
        },
    )
