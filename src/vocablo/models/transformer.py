"""The Transformer (Vaswani et al. 2017), one implementation; today its decoder-only shape, as GPT-2 has it.

    h_0     = E[w] + P[position]                                        token and position embeddings
    a_l     = h_l + Attention(Norm(h_l))                                causal self-attention, residual connection
    h_(l+1) = a_l + W_2 gelu(W_1 Norm(a_l) + b_1) + b_2                 feed-forward, residual connection
    p(w | w_<t) = softmax(E Norm(h_L))                                  tied head

That is the pre-norm of Radford et al. 2019 (norm before each part, one more at the end); ``norm.place = "post"`` is the
original order, Norm(h + part(h)). Weights start as GPT-2's: N(0, 0.02), those that end a residual branch divided by
sqrt(2 L). Configuration is grouped by part; ``__init__`` turns it into modules and ``forward`` reads none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn import taps
from vocablo.nn.attention import Look, attention
from vocablo.nn.cache import KeyValueCache
from vocablo.nn.dropout import Dropout
from vocablo.nn.head import target_log_probs

FAMILIES = {"gpt": "decoder-only Transformer (GPT-2)"}
SIZES = {
    "tiny": {"stack": {"layers": 2, "width": 128}, "attention": {"heads": 4}},
    "mini": {"stack": {"layers": 4, "width": 256}, "attention": {"heads": 4}},
    "small": {"stack": {"layers": 6, "width": 384}, "attention": {"heads": 6}},
    "medium": {"stack": {"layers": 8, "width": 512}, "attention": {"heads": 8}},
    "base": {"stack": {"layers": 12, "width": 768}, "attention": {"heads": 12}},
    "large": {"stack": {"layers": 24, "width": 1024}, "attention": {"heads": 16}},
}
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class Norm(Settings):
    """Layer normalisation: where it stands and its epsilon (added to the variance, as in torch)."""

    place: Literal["pre", "post"] = "pre"
    final: bool = True  # one more after the last layer
    bias: bool = True
    eps: float = Field(default=1e-5, gt=0)


class Position(Settings):
    """How positions are told: a learned table of ``max`` rows."""

    kind: Literal["learned"] = "learned"
    max: int = Field(default=1024, ge=1)


class AttentionSettings(Settings):
    """Heads of width ``stack.width / heads``."""

    heads: int = Field(default=12, ge=1)
    bias: bool = True
    scaled: bool = True  # scores divided by sqrt(head width)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class FeedForwardSettings(Settings):
    """Two linear maps; ``width`` None is four times the model's."""

    width: int | None = Field(default=None, ge=1)
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu_tanh"
    bias: bool = True


class Stack(Settings):
    """The pile of layers. ``dropout`` is on the end of each residual branch."""

    layers: int = Field(default=12, ge=1)
    width: int = Field(default=768, ge=1)
    causal: Literal[True] = True
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Embed(Settings):
    """The token table; ``dropout`` is on the sum of all embeddings."""

    vocab: int = Field(ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Head(Settings):
    """The output layer: the token table itself when tied, else a matrix of its own."""

    tied: bool = True


class Config(Settings):
    """All that defines a Transformer."""

    embed: Embed
    position: Position = Position()
    stack: Stack = Stack()
    attention: AttentionSettings = AttentionSettings()
    feed_forward: FeedForwardSettings = FeedForwardSettings()
    norm: Norm = Norm()
    head: Head = Head()

    @model_validator(mode="after")
    def _divides(self) -> Config:
        if self.stack.width % self.attention.heads:
            raise ValueError(
                f"stack.width {self.stack.width} isn't a multiple of attention.heads {self.attention.heads}"
            )
        return self


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration of a family at a size; ``changes`` (nested, as in a recipe's ``model``) win.

    A change named ``dropout`` alone sets all three dropouts.
    """
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    rest = {key: value for key, value in changes.items() if key != "dropout"}
    layers: list[tuple[str, Mapping[str, Any]]] = [("size", SIZES[size])]
    if "dropout" in changes:
        same = {"dropout": changes["dropout"]}
        layers.append(("dropout", {"embed": same, "stack": same, "attention": same}))
    layers += [("given", {"embed": {"vocab": vocab}, "position": {"max": context}}), ("model", rest)]
    return build_settings(Config, merge(layers)[0], "model")


def build(config: Config) -> Transformer:
    """A model with fresh weights from torch's current random state."""
    return Transformer(config)


class SelfAttention(nn.Module):
    """Multi-head self-attention: one joined projection to queries, keys and values, one back."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, settings = config.stack.width, config.attention
        self.heads = settings.heads
        self.scale = (width // settings.heads) ** -0.5 if settings.scaled else 1.0
        self.dropout = settings.dropout
        self.look = Look(causal=config.stack.causal)
        self.qkv = nn.Linear(width, 3 * width, bias=settings.bias)
        self.out = nn.Linear(width, width, bias=settings.bias)

    def forward(self, x: Float[Tensor, "N D"], fences: Fences) -> Float[Tensor, "N D"]:
        q, k, v = self.qkv(x).view(x.shape[0], 3, self.heads, -1).unbind(1)
        taps.record(self, q, k, fences, self.look, self.scale)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(q, k, v, fences, fences, self.look, scale=self.scale, dropout=dropout)
        return self.out(mixed.reshape(x.shape))

    def extend(self, x: Float[Tensor, "N D"], fences: Fences, cache: KeyValueCache, layer: int) -> Float[Tensor, "N D"]:
        """The same for tokens that continue what the cache holds."""
        q, k, v = self.qkv(x).view(x.shape[0], 3, self.heads, -1).unbind(1)
        mixed = cache.attend(layer, q, k, v, fences, self.scale)
        return self.out(mixed.reshape(x.shape))


class FeedForward(nn.Module):
    """W_2 activation(W_1 x + b_1) + b_2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, settings = config.stack.width, config.feed_forward
        inner = settings.width or 4 * width
        self.up = nn.Linear(width, inner, bias=settings.bias)
        self.down = nn.Linear(inner, width, bias=settings.bias)
        self.activation = ACTIVATIONS[settings.activation]

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        return self.down(self.activation(self.up(x)))


class Layer(nn.Module):
    """Attention and feed-forward, each on a residual branch, with the norm before (pre) or after (post)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention_norm = layer_norm(config)
        self.attention = SelfAttention(config)
        self.feed_forward_norm = layer_norm(config)
        self.feed_forward = FeedForward(config)
        self.drop = Dropout(config.stack.dropout)
        self.pre = config.norm.place == "pre"

    def forward(self, x: Float[Tensor, "N D"], mix: Any) -> Float[Tensor, "N D"]:
        """``mix(attention, x)`` is how tokens are mixed: over a whole batch, or onto a cache."""
        if self.pre:
            x = x + self.drop(mix(self.attention, self.attention_norm(x)))
            return x + self.drop(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.drop(mix(self.attention, x)))
        return self.feed_forward_norm(x + self.drop(self.feed_forward(x)))


def layer_norm(config: Config) -> nn.LayerNorm:
    return nn.LayerNorm(config.stack.width, eps=config.norm.eps, bias=config.norm.bias)


class Transformer(nn.Module):
    """A decoder-only Transformer that obeys ``contract.LeftModel``."""

    reads = "left"
    carries = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vocab, self.context = config.embed.vocab, config.position.max
        width = config.stack.width
        self.tokens = nn.Embedding(self.vocab, width)
        self.positions = nn.Embedding(self.context, width)
        self.drop = Dropout(config.embed.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.stack.layers))
        self.final_norm = layer_norm(config) if config.norm.final else nn.Identity()
        self.head = None if config.head.tied else nn.Linear(width, self.vocab, bias=False)
        self.step: Any = None  # ``extend`` in one call, where nn/quantize.py has made the weights compact
        self.apply(_initialise)
        for layer in self.layers:
            for ends in (layer.attention.out, layer.feed_forward.down):  # type: ignore[union-attr]
                nn.init.normal_(ends.weight, std=0.02 / math.sqrt(2 * config.stack.layers))  # type: ignore[union-attr, arg-type]

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, D]. ``keep`` names layers to return: 0 the embeddings, l the output of layer l."""
        self._check(max(tokens.fences.lengths, default=0))
        x = self.drop(self.tokens(tokens.ids) + self.positions(tokens.positions))
        kept = {0: x}
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, lambda attend, inner: attend(inner, tokens.fences))
            if number in keep:
                kept[number] = x
        return Hidden(self.final_norm(x), layers=tuple(kept[number] for number in keep))

    def extend(self, tokens: Tokens, state: KeyValueCache | None) -> tuple[Float[Tensor, "B V"], KeyValueCache]:
        """Read more tokens of each of B sequences; logits after each one's last. Only for inference."""
        if self.step is not None and (read := self.step(tokens, state)) is not None:
            return read
        fences = tokens.fences
        cache = KeyValueCache(len(self.layers), fences.count, self.context) if state is None else state
        positions = tokens.positions if state is None else cache.continued(tokens)
        self._check(cache.longest + max(fences.lengths, default=0))
        x = self.tokens(tokens.ids) + self.positions(positions)
        for number, layer in enumerate(self.layers):
            x = layer(x, lambda attend, inner: attend.extend(inner, fences, cache, number))  # noqa: B023
        cache.advance(fences)
        return self.logits(self.final_norm(x if fences.equal == 1 else x.index_select(0, fences.last()))), cache

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the next token, before the softmax."""
        return F.linear(states, self.tokens.weight) if self.head is None else self.head(states)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[at[m]]) in nats."""
        return target_log_probs(states, at, ids, self.tokens.weight if self.head is None else self.head.weight)

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight that is multiplied, and the two products of attention, 12 T D a layer."""
        width = self.config.stack.width
        looked_up = self.positions.weight.numel() + (0 if self.head is None else self.tokens.weight.numel())
        weights = sum(parameter.numel() for parameter in self.parameters()) - looked_up
        return 6 * weights + 12 * len(self.layers) * width * context

    def _check(self, length: int) -> None:
        if length > self.context:
            raise ConfigError(
                f"The text has {length} tokens and the model reads at most {self.context}: shorten it, or use a window."
            )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
