"""Heads switched off, or scaled, from outside: what a head adds is multiplied before the heads are joined.

    out = W_o [m_1 head_1; ...; m_H head_H]                                                   (Michel et al. 2019)

The model's own code doesn't know of it: the factors are put in front of each output projection and taken away again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocablo.base.errors import ConfigError


@contextmanager
def masking(model: Any, heads: Mapping[int, Sequence[int]] | Float[Tensor, "L H"]) -> Iterator[None]:
    """Every reading inside is without the heads named, layer -> heads (from 0), or with all of them scaled by a tensor.

    A tensor may want a gradient: at ones it is each head's importance. Raises ConfigError for what isn't there.
    """
    factors = _factors(model, heads)
    step = getattr(model, "step", None)
    if step is not None:
        model.step = None  # it reads weights past the modules
    turn = count()
    try:
        with ExitStack() as hooks:
            for number, layer in enumerate(model.layers):
                own = factors if len(model.layers) == 1 else factors[number : number + 1]
                hook = layer.attention.out.register_forward_pre_hook(_scaling(own, turn))
                hooks.callback(hook.remove)
            yield
    finally:
        if step is not None:
            model.step = step


def _scaling(factors: Float[Tensor, "L H"], turn: Iterator[int]) -> Any:
    """A hook for one layer's factors, or, where all layers are one module, for the factors of each of its turns."""

    def scale(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        (mixed,) = inputs
        row = factors[next(turn) % len(factors) if len(factors) > 1 else 0].to(mixed.dtype)
        return ((mixed.unflatten(1, (len(row), -1)) * row[:, None]).flatten(1),)

    return scale


def _factors(model: Any, heads: Mapping[int, Sequence[int]] | Tensor) -> Float[Tensor, "L H"]:
    layers, width = model.depth, model.layers[0].attention.heads
    if isinstance(heads, Tensor):
        if heads.shape != (layers, width):
            raise ConfigError(f"A mask of this model's heads is [{layers}, {width}]; this one is {list(heads.shape)}.")
        return heads
    factors = torch.ones(layers, width, device=next(model.parameters()).device)
    for layer, off in heads.items():
        if not 0 <= layer < layers:
            raise ConfigError(f"There is no layer {layer} to mask: this model has layers 0 to {layers - 1}.")
        for head in off:
            if not 0 <= head < width:
                raise ConfigError(f"There is no head {head} to mask: each layer has heads 0 to {width - 1}.")
            factors[layer, head] = 0.0
    return factors
