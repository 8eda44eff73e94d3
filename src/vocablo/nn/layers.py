"""A layer of a Transformer: attention and a feed-forward, each on a residual branch, with a norm before or after.

pre       a = x + Attention(Norm(x)),   y = a + FeedForward(Norm(a))      (Radford et al. 2019)
post      a = Norm(x + Attention(x)),   y = Norm(a + FeedForward(a))      (Vaswani et al. 2017)
parallel  y = x + Attention(Norm(x)) + FeedForward(Norm'(x))              (Wang and Komatsuzaki 2021; Norm' may be Norm)

Between the two branches a decoder that translates has a third: its states ask, and the encoder's states answer
(``CrossAttention``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.contract import Fences
from vocablo.nn import taps
from vocablo.nn.attention import attention
from vocablo.nn.cache import KeyValueCache, SourceCache
from vocablo.nn.dropout import Dropout
from vocablo.nn.linear import Linear
from vocablo.nn.look import Look
from vocablo.nn.positions import Position, Rotation, turning

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class Norm(Settings):
    """Normalisation: where it stands and its epsilon (added to the variance, as in torch).

    ``kind`` "rms" divides by the root of the mean square and takes no mean away (Zhang and Sennrich 2019).
    """

    kind: Literal["layer", "rms"] = "layer"
    place: Literal["pre", "post"] = "pre"
    shared: bool = False  # parallel layers: one for the attention and the feed-forward
    final: bool = True  # one more after the last layer
    embedding: bool = False  # one more after the sum of the embeddings
    before_positions: bool = False  # that one is of the tokens alone: positions are added after it
    bias: bool = True
    eps: float = Field(default=1e-5, gt=0)


class AttentionSettings(Settings):
    """Heads of width ``head_width``; None is ``stack.width / heads``."""

    heads: int = Field(default=12, ge=1)
    head_width: int | None = Field(default=None, ge=1)
    bias: bool = True
    out_bias: bool | None = None  # of the last projection; None: as ``bias``
    scaled: bool = True  # scores divided by sqrt(head width)
    windows: tuple[Annotated[int, Field(ge=0)], ...] = ()  # tokens seen by the layers in turn, the own included; 0: all
    dropout: float = Field(default=0.0, ge=0, lt=1)


class FeedForwardSettings(Settings):
    """Two linear maps; ``width`` None is four times the model's. ``gated``: a third one (Shazeer 2020).

    ``dropout`` is on what is between them.
    """

    width: int | None = Field(default=None, ge=1)
    activation: Activation = "gelu_tanh"
    gated: bool = False
    bias: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Stack(Settings):
    """The pile of layers. ``dropout`` is on the end of each residual branch; ``shared``: one layer's weights, used again."""

    layers: int = Field(default=12, ge=1)
    width: int = Field(default=768, ge=1)
    causal: bool = True  # a token sees those before it: a decoder; otherwise all: an encoder
    dropout: float = Field(default=0.0, ge=0, lt=1)
    shared: bool = False
    parallel: bool = False  # attention and feed-forward read the same, and are added together
    layer_drop: float = Field(default=0.0, ge=0, lt=1)  # of whole layers, left out in training (Fan et al. 2020)


@dataclass(frozen=True, slots=True)
class Memory:
    """The encoder's states, flat, and where each source begins."""

    states: Float[Tensor, "S D"]
    fences: Fences


@dataclass(frozen=True, slots=True)
class Place:
    """What the layers are told of the tokens: where sequences begin, how far queries and keys turn, what distances add."""

    fences: Fences
    rotation: Rotation = None
    bias: Tensor | None = None  # [H, T, T] of the longest sequence; [H, T, S] where it is continued
    source: Memory | None = None  # what cross-attention looks at; None: a cache has its keys and values


class SelfAttention(nn.Module):
    """Multi-head self-attention: one joined projection to queries, keys and values, one back."""

    def __init__(self, stack: Stack, settings: AttentionSettings, position: Position, window: int = 0) -> None:
        super().__init__()
        self.heads = settings.heads
        width = settings.head_width or stack.width // settings.heads
        self.scale = width**-0.5 if settings.scaled else 1.0
        self.dropout = settings.dropout
        self.look = Look(stack.causal, window)
        self.qkv = Linear(stack.width, 3 * self.heads * width, bias=settings.bias)
        out_bias = settings.bias if settings.out_bias is None else settings.out_bias
        self.out = Linear(self.heads * width, stack.width, bias=out_bias)
        self.turn = turning(position)

    def forward(self, x: Float[Tensor, "N D"], place: Place) -> Float[Tensor, "N D"]:
        q, k, v = self._projected(x, place)
        fences, bias = place.fences, place.bias
        taps.record(self, q, k, fences, self.look, self.scale, bias)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(q, k, v, fences, fences, self.look, scale=self.scale, dropout=dropout, bias=bias)
        return self.out(mixed.flatten(1))

    def at(self, x: Float[Tensor, "N D"], place: Place, rows: Int[Tensor, "M"], fences: Fences) -> Float[Tensor, "M D"]:
        """The same for some tokens only, ``fences`` of which belong to each sequence; they look at all the others."""
        q, k, v = self._projected(x, place)
        mixed = attention(q.index_select(0, rows), k, v, fences, place.fences, self.look, scale=self.scale)
        return self.out(mixed.flatten(1))

    def extend(self, x: Float[Tensor, "N D"], place: Place, cache: KeyValueCache, layer: int) -> Float[Tensor, "N D"]:
        """The same for tokens that continue what the cache holds."""
        q, k, v = self._projected(x, place)
        mixed = cache.attend(layer, q, k, v, place.fences, self.look, scale=self.scale, bias=place.bias)
        return self.out(mixed.flatten(1))

    def _projected(self, x: Float[Tensor, "N D"], place: Place) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).view(x.shape[0], 3, self.heads, -1).unbind(1)
        return self.turn(q, k, v, place.rotation)


class CrossAttention(nn.Module):
    """Multi-head attention of target states (queries) to source states (keys and values); it sees all of the source."""

    def __init__(self, width: int, settings: AttentionSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        size = settings.head_width or width // settings.heads
        self.scale = size**-0.5 if settings.scaled else 1.0
        self.dropout = settings.dropout
        self.look = Look()
        self.q = Linear(width, self.heads * size, bias=settings.bias)
        self.kv = Linear(width, 2 * self.heads * size, bias=settings.bias)
        out_bias = settings.bias if settings.out_bias is None else settings.out_bias
        self.out = Linear(self.heads * size, width, bias=out_bias)

    def forward(self, x: Float[Tensor, "N D"], place: Place) -> Float[Tensor, "N D"]:
        assert place.source is not None, "cross-attention outside of a cache is given the source"
        q, (k, v), cols = self._queries(x), self.remembered(place.source.states), place.source.fences
        taps.record(self, q, k, place.fences, self.look, self.scale, cols=cols)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(q, k, v, place.fences, cols, self.look, scale=self.scale, dropout=dropout)
        return self.out(mixed.flatten(1))

    def extend(self, x: Float[Tensor, "N D"], place: Place, cache: SourceCache, layer: int) -> Float[Tensor, "N D"]:
        """The same with the keys and values that the cache has of the source."""
        return self.out(cache.look(layer, self._queries(x), self.scale).flatten(1))

    def remembered(self, source: Float[Tensor, "S D"]) -> tuple[Float[Tensor, "S H K"], Float[Tensor, "S H K"]]:
        """Keys and values of the source's states."""
        k, v = self.kv(source).view(source.shape[0], 2, self.heads, -1).unbind(1)
        return k, v

    def _queries(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N H K"]:
        return self.q(x).view(x.shape[0], self.heads, -1)


class FeedForward(nn.Module):
    """W_2 activation(W_1 x + b_1) + b_2, or gated: W_2 (activation(W_g x + b_g) * (W_1 x + b_1)) + b_2."""

    def __init__(self, width: int, settings: FeedForwardSettings) -> None:
        super().__init__()
        inner = settings.width or 4 * width
        self.up = Linear(width, inner, bias=settings.bias)
        self.down = Linear(inner, width, bias=settings.bias)
        self.gate = Linear(width, inner, bias=settings.bias) if settings.gated else None
        self.activation = ACTIVATIONS[settings.activation]
        self.drop = Dropout(settings.dropout)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        if self.gate is not None:
            return self.down(self.drop(self.activation(self.gate(x)) * self.up(x)))
        return self.down(self.drop(self.activation(self.up(x))))


class Layer(nn.Module):
    """Attention and feed-forward, each on a residual branch, with the norm before (pre) or after (post).

    ``cross``: with attention to a source between the two.
    """

    def __init__(
        self,
        stack: Stack,
        attention: AttentionSettings,
        feed_forward: FeedForwardSettings,
        norm: Norm,
        position: Position,
        window: int = 0,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = normalisation(stack.width, norm)
        self.attention = SelfAttention(stack, attention, position, window)
        self.cross_norm = normalisation(stack.width, norm) if cross else None
        self.cross = CrossAttention(stack.width, attention) if cross else None
        self.feed_forward_norm = nn.Identity() if norm.shared else normalisation(stack.width, norm)
        self.feed_forward = FeedForward(stack.width, feed_forward)
        self.drop = Dropout(stack.dropout)
        self.pre, self.parallel, self.shared = norm.place == "pre", stack.parallel, norm.shared

    def forward(
        self, x: Float[Tensor, "N D"], mix: Any, rows: Int[Tensor, "M"] | None = None
    ) -> Float[Tensor, "N D"] | Float[Tensor, "M D"]:
        """``mix(attention, x)`` is how tokens are mixed: over a whole batch, onto a cache, or for some ``rows`` only."""
        kept = x if rows is None else x.index_select(0, rows)
        if self.parallel:
            normed = self.attention_norm(x)
            alike = normed if rows is None else normed.index_select(0, rows)
            fed = self.feed_forward(self.feed_forward_norm(alike if self.shared else kept))
            return kept + self.drop(mix(self.attention, normed)) + self.drop(fed)
        if self.pre:
            x = kept + self.drop(mix(self.attention, self.attention_norm(x)))
            if self.cross is not None and self.cross_norm is not None:
                x = x + self.drop(mix(self.cross, self.cross_norm(x)))
            return x + self.drop(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(kept + self.drop(mix(self.attention, x)))
        if self.cross is not None and self.cross_norm is not None:
            x = self.cross_norm(x + self.drop(mix(self.cross, x)))
        return self.feed_forward_norm(x + self.drop(self.feed_forward(x)))


def normalisation(width: int, norm: Norm) -> nn.LayerNorm | nn.RMSNorm:
    if norm.kind == "rms":
        return nn.RMSNorm(width, eps=norm.eps)
    return nn.LayerNorm(width, eps=norm.eps, bias=norm.bias)
