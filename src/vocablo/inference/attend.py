"""Which tokens each token looks at: the attention weights of any layer and head, as recorded by ``nn/taps.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.inference.reading import asking, spelled
from vocablo.nn import taps
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.attention import head_svg, heads_html

MOST_BYTES = 1 << 30  # of weights that are held at a time


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """The attention weights of one text.

    ``weights[l, h, i, j]``, float32, is the share that token i takes from token j in layer ``layers[l]`` and head
    ``heads[h]`` (both numbered from 1); each row sums to 1. ``tokens`` are those that the model read, special ones too.
    ``depth`` and ``width`` are how many layers and heads the model has. ``looked`` are the tokens j where they are others:
    a source that a target was written from (then row i is what was looked at to write token i).
    """

    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    weights: NDArray[np.float32]
    depth: int
    width: int
    looked: tuple[str, ...] | None = None

    def matrix(self, layer: int | None = None, head: int | None = None) -> NDArray[np.float32]:
        """Weights [T, T] of one layer (None: the last one here) and head (None: the mean of those here)."""
        at = -1 if layer is None else self.layers.index(layer)
        return self.weights[at].mean(0) if head is None else self.weights[at, self.heads.index(head)]

    def svg(self, layer: int | None = None, head: int | None = None) -> str:
        """``matrix`` as a picture."""
        return head_svg(self.tokens, self.matrix(layer, head), self.title(layer, head), self.looked)

    def title(self, layer: int | None = None, head: int | None = None) -> str:
        """What ``matrix`` is, in words."""
        heads = f"head {self.heads[0] if head is None else head}"
        if head is None and len(self.heads) > 1:
            heads = f"mean of {len(self.heads)} heads"
        return f"layer {self.layers[-1] if layer is None else layer} of {self.depth}, {heads}"

    def _repr_html_(self) -> str:
        return heads_html(self.tokens, self.weights, self.layers, self.heads, self.looked)


def attend(
    model: Any,
    tokenizer: Tokenizer,
    tokens: Tokens,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Attention:
    """The weights of one sequence; ``layers`` and ``heads`` (from 1; negative from the end) None are all of them.

    Raises ConfigError for a layer or head that the model doesn't have.
    """
    with asking(model), taps.watching() as seen:
        model.forward(tokens)
    made = [partial(seen.weights, place) for place in range(len(seen.recorded))]
    width = int(seen.recorded[0][1].shape[1])
    return _found(made, width, spelled(tokenizer, tokens.ids.tolist()), None, layers, heads)


def attend_across(
    model: Any,
    tokenizer: Tokenizer,
    tokens: Tokens,
    source: Tokens,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Attention:
    """The weights of a target's tokens on those of its source. Raises ConfigError for a model without such attention."""
    with asking(model), taps.watching() as seen:
        model.forward(tokens, source)
    across = [place for place, (*_, look, _, _) in enumerate(seen.recorded) if _crosses(seen, place, look)]
    made = [partial(seen.weights, place) for place in across] or [partial(list, told) for _, told in seen.told]
    if not made:
        raise ConfigError("This model has no attention to its source: there is nothing to show.")
    looked = spelled(tokenizer.source, source.ids.tolist())
    width = int(seen.recorded[across[0]][1].shape[1]) if across else 1
    return _found(made, width, spelled(tokenizer, tokens.ids.tolist()), looked, layers, heads)


def _crosses(seen: taps.Taps, place: int, look: Any) -> bool:
    """Whether an attention looked from one text at another."""
    rows, cols = seen.recorded[place][3]
    return rows is not cols and not look.causal


def _found(
    made: Sequence[Callable[[], list[Tensor]]],
    width: int,
    tokens: tuple[str, ...],
    looked: tuple[str, ...] | None,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
) -> Attention:
    """The weights of some attentions of ``width`` heads, as so many layers; each is made when it is asked for."""
    depth = len(made)
    chosen, kept = _chosen("layer", layers, depth), _chosen("head", heads, width)
    length = len(tokens) * len(looked or tokens)
    if 4 * len(chosen) * width * length > MOST_BYTES:
        raise ConfigError(
            f"All weights of {len(tokens)} tokens are too many to hold: ask for some layers (--layer, or layers=[...])."
        )
    rows = np.array(kept) - 1
    weights = np.stack([made[layer - 1]()[0].float().cpu().numpy()[rows] for layer in chosen])
    return Attention(tokens, chosen, kept, weights, depth, width, looked)


def _chosen(what: str, given: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if given is None:
        return tuple(range(1, count + 1))
    found = [count + 1 + one if one < 0 else one for one in given]
    for asked, one in zip(given, found, strict=True):
        if not 1 <= one <= count:
            raise ConfigError(f"There is no {what} {asked}: this model has {what}s 1 to {count}.")
    return tuple(found)
