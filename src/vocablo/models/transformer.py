"""The Transformer (Vaswani et al. 2017), one implementation in two shapes: the decoder (GPT) and the encoder (BERT).

    x_0     = E[w] + P[position] (+ S[segment], normalised)             embeddings            nn/embeddings, nn/positions
    a_l     = x_l + Attention(Norm(x_l))                                residual connection   nn/attention
    x_(l+1) = a_l + W_2 gelu(W_1 Norm(a_l) + b_1) + b_2                 feed-forward          nn/layers

    decoder   p(w_t | w_<t)      = softmax(E Norm(x_L))                 a token sees those before it
    encoder   p(w_t | the rest)  = softmax(E Transform(x_L) + b)        a token sees all of its sequence
              pooled             = tanh(W x_L[first token] + b)         one vector for the sequence

That is the pre-norm of GPT-2 (Radford et al. 2019), whose last norm follows the last layer; with ``norm.place = "post"``,
the original order and BERT's, a_l = Norm(x_l + Attention(x_l)) and so on (Devlin et al. 2019). Weights start from
N(0, ``init.std``), in GPT-2 those that end a residual branch divided by sqrt(2 L). Configuration is grouped by part;
``__init__`` turns it into modules and ``forward`` reads none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn import positions
from vocablo.nn.cache import KeyValueCache
from vocablo.nn.dropout import Dropout
from vocablo.nn.embeddings import Embed, Segments
from vocablo.nn.head import target_log_probs
from vocablo.nn.layers import AttentionSettings, FeedForwardSettings, Layer, Norm, Place, Stack, normalisation
from vocablo.nn.output import Head, OutputLayer
from vocablo.nn.positions import Position

FAMILIES = {"gpt": "decoder-only Transformer (GPT-2)", "bert": "encoder-only Transformer (BERT)"}
SIZES = {
    "tiny": {
        "gpt": {"stack": {"layers": 2, "width": 128}, "attention": {"heads": 4}},
        "bert": {"stack": {"layers": 2, "width": 128}, "attention": {"heads": 2}},
    },
    "mini": {
        "gpt": {"stack": {"layers": 4, "width": 256}, "attention": {"heads": 4}},
        "bert": {"stack": {"layers": 4, "width": 256}, "attention": {"heads": 4}},
    },
    "small": {
        "gpt": {"stack": {"layers": 6, "width": 384}, "attention": {"heads": 6}},
        "bert": {"stack": {"layers": 4, "width": 512}, "attention": {"heads": 8}},
    },
    "medium": {
        "gpt": {"stack": {"layers": 8, "width": 512}, "attention": {"heads": 8}},
        "bert": {"stack": {"layers": 8, "width": 512}, "attention": {"heads": 8}},
    },
    "base": {
        "gpt": {"stack": {"layers": 12, "width": 768}, "attention": {"heads": 12}},
        "bert": {"stack": {"layers": 12, "width": 768}, "attention": {"heads": 12}},
    },
    "large": {
        "gpt": {"stack": {"layers": 24, "width": 1024}, "attention": {"heads": 16}},
        "bert": {"stack": {"layers": 24, "width": 1024}, "attention": {"heads": 16}},
    },
}
# What a family is at every size; the rest is as the records below say, which is GPT-2's.
SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {},
    "bert": {
        "embed": {"segments": 2, "dropout": 0.1},
        "stack": {"causal": False, "dropout": 0.1},
        "attention": {"dropout": 0.1},
        "feed_forward": {"activation": "gelu"},
        "norm": {"place": "post", "final": False, "embedding": True, "eps": 1e-12},
        "head": {"transform": True, "bias": True},
        "init": {"residual": False},
        "pooler": True,
    },
}


class Init(Settings):
    """The start: N(0, ``std``) for weights; ``residual`` divides those that end a residual branch by sqrt(2 L)."""

    std: float = Field(default=0.02, gt=0)
    residual: bool = True


class Config(Settings):
    """All that defines a Transformer. ``head`` None: no output layer (an encoder kept for its states)."""

    embed: Embed
    position: Position = Position()
    stack: Stack = Stack()
    attention: AttentionSettings = AttentionSettings()
    feed_forward: FeedForwardSettings = FeedForwardSettings()
    norm: Norm = Norm()
    head: Head | None = Head()
    init: Init = Init()
    pooler: bool = False

    @model_validator(mode="after")
    def _divides(self) -> Config:
        heads, width = self.attention.heads, self.attention.head_width
        if width is None and self.stack.width % heads:
            raise ValueError(f"stack.width {self.stack.width} isn't a multiple of attention.heads {heads}")
        if 0 < self.position.buckets < 4 or self.position.distance <= self.position.buckets // 4:
            raise ValueError("position.buckets is at least 4, and position.distance more than a quarter of it")
        if self.position.kind == "rotary" and (width or self.stack.width // heads) % 2:
            raise ValueError("position.kind 'rotary' needs heads of an even width")
        turned = self.position.turned
        if turned is not None and (turned % 2 or turned > (width or self.stack.width // heads)):
            raise ValueError("position.turned is an even number of dimensions, at most those of a head")
        return self

    @model_validator(mode="after")
    def _layers_are_possible(self) -> Config:
        if self.stack.parallel and self.norm.place == "post":
            raise ValueError('stack.parallel: a parallel layer has its norms before (norm.place = "pre")')
        if self.norm.shared and not self.stack.parallel:
            raise ValueError("norm.shared is of parallel layers (stack.parallel = true)")
        if self.attention.windows and (self.stack.shared or not self.stack.causal):
            raise ValueError("attention.windows are of a decoder whose layers aren't shared")
        return self

    @model_validator(mode="after")
    def _fits_its_shape(self) -> Config:
        if self.stack.causal:
            lone = self.pooler or self.head is None or self.head.transform or self.head.width
            if lone or self.embed.segments or self.embed.width:
                raise ValueError(
                    "stack.causal: a decoder has an output layer, and no pooler, embed.segments, embed.width, "
                    "head.transform or head.width: these belong to an encoder (stack.causal = false)"
                )
        elif self.head is not None and self.head.tied and not self.head.transform and self.embed.width is not None:
            raise ValueError("head.tied with embed.width needs head.transform, which leads back to the table's width")
        elif self.head is not None and self.head.tied and self.head.width is not None:
            raise ValueError("head.width is of a head that isn't tied: the token table has a width already")
        return self


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration of a family at a size; ``changes`` (nested, as in a recipe's ``model``) win.

    A change named ``dropout`` alone sets all three dropouts.
    """
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    rest = {key: value for key, value in changes.items() if key != "dropout"}
    layers: list[tuple[str, Mapping[str, Any]]] = [("family", SHAPES[family]), ("size", SIZES[size][family])]
    if "dropout" in changes:
        same = {"dropout": changes["dropout"]}
        layers.append(("dropout", {"embed": same, "stack": same, "attention": same}))
    layers += [("given", {"embed": {"vocab": vocab}, "position": {"max": context}}), ("model", rest)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "gpt" if config.stack.causal else "bert"


def build(config: Config) -> Decoder | Encoder:
    """A model with fresh weights from torch's current random state."""
    return Decoder(config) if config.stack.causal else Encoder(config)


class Trunk(nn.Module):
    """What both shapes are up to their output: embeddings and a pile of layers."""

    carries = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vocab, self.context = config.embed.vocab, config.position.max
        embed, stack, position = config.embed, config.stack, config.position
        width = embed.width or stack.width
        self.tokens = nn.Embedding(self.vocab, width)
        self.scale = math.sqrt(width) if embed.scaled else None
        self.positions = positions.table(position, width)
        self.segments = Segments(embed.segments, width) if embed.segments else None
        self.embedding_norm = normalisation(width, config.norm) if config.norm.embedding else nn.Identity()
        self.drop = Dropout(embed.dropout)
        self.project = nn.Identity() if embed.width is None else nn.Linear(width, stack.width)
        parts = (stack, config.attention, config.feed_forward, config.norm, position)
        windows = cycle(config.attention.windows or (0,))
        self.layers = nn.ModuleList(Layer(*parts, next(windows)) for _ in range(1 if stack.shared else stack.layers))
        self.depth, self.layer_drop = stack.layers, stack.layer_drop
        head_width = config.attention.head_width or stack.width // config.attention.heads
        self.rotary = positions.Rotary(position, head_width) if position.kind == "rotary" else None
        self.distances = (
            positions.Distances(position, config.attention.heads, stack.causal) if position.buckets else None
        )
        self.final_norm = normalisation(stack.width, config.norm) if config.norm.final else nn.Identity()

    def _start(self) -> None:
        """Fresh weights, once all modules are there."""
        init = self.config.init
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding, OutputLayer)) and module.weight is not None:
                nn.init.normal_(module.weight, std=init.std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if init.residual:
            for layer in self.layers:
                for ends in (layer.attention.out, layer.feed_forward.down):  # type: ignore[union-attr]
                    nn.init.normal_(ends.weight, std=init.std / math.sqrt(2 * self.depth))  # type: ignore[union-attr, arg-type]

    def embedded(self, tokens: Tokens, places: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """What the first layer reads."""
        x = self.tokens(tokens.ids)
        if self.scale is not None:
            x = x * self.scale
        if self.positions is not None:
            x = x + self.positions(places)
        if self.segments is not None:
            x = x + self.segments(tokens.segments)
        return self.project(self.drop(self.embedding_norm(x)))

    def through(
        self, x: Float[Tensor, "N D"], mix: Callable[[int, Any, Tensor], Tensor], keep: tuple[int, ...] = ()
    ) -> tuple[Float[Tensor, "N D"], tuple[Tensor, ...]]:
        """The states after the last layer (and its norm), and the layers of ``keep``.

        ``mix(layer, attention, x)`` is how a layer mixes tokens: over a whole batch, or onto a cache.
        """
        kept = {0: x}
        for number in range(1, self.depth + 1):
            if not (self.training and self.layer_drop and float(torch.rand(())) < self.layer_drop):
                x = self.layers[(number - 1) % len(self.layers)](x, partial(mix, number - 1))
            if number in keep:
                kept[number] = x
        return self.final_norm(x), tuple(kept[number] for number in keep)

    def read(self, tokens: Tokens, keep: tuple[int, ...]) -> tuple[Float[Tensor, "N D"], tuple[Tensor, ...]]:
        """Whole sequences, through all layers."""
        longest = max(tokens.fences.lengths, default=0)
        self._check(longest)
        bias = None if self.distances is None else self.distances(longest)
        place = Place(tokens.fences, self._rotation(tokens.positions), bias)
        return self.through(self.embedded(tokens, tokens.positions), lambda _, attend, x: attend(x, place), keep)

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight that is multiplied, and the two products of attention, 12 T D a layer.

        An encoder's output layer and pooler are left out: they only see the few states that are asked for.
        """
        weights = sum(parameter.numel() for parameter in self.layers.parameters()) * self.depth // len(self.layers)
        for part in (self.embedding_norm, self.project, self.final_norm):
            weights += sum(parameter.numel() for parameter in part.parameters())
        attention = self.config.attention
        width = attention.heads * attention.head_width if attention.head_width else self.config.stack.width
        return 6 * weights + 12 * self.depth * width * context

    def _rotation(self, places: Int[Tensor, "N"]) -> positions.Rotation:
        return None if self.rotary is None else self.rotary(places)

    def _check(self, length: int) -> None:
        if length > self.context:
            raise ConfigError(
                f"The text has {length} tokens and the model reads at most {self.context}: shorten it, or use a window."
            )


class Decoder(Trunk):
    """A decoder-only Transformer that obeys ``contract.LeftModel``."""

    reads = "left"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        head = config.head or Head()
        self.head = None if head.tied else nn.Linear(config.stack.width, self.vocab, bias=head.bias)
        self.head_bias = nn.Parameter(torch.zeros(self.vocab)) if head.tied and head.bias else None
        self.step: Any = None  # ``extend`` in one call, where nn/quantize.py has made the weights compact
        self._start()

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, D]. ``keep`` names layers to return: 0 the embeddings, l the output of layer l."""
        states, layers = self.read(tokens, keep)
        return Hidden(states, layers=layers)

    def extend(self, tokens: Tokens, state: KeyValueCache | None) -> tuple[Float[Tensor, "B V"], KeyValueCache]:
        """Read more tokens of each of B sequences; logits after each one's last. Only for inference."""
        if self.step is not None and (read := self.step(tokens, state)) is not None:
            return read
        fences = tokens.fences
        cache = KeyValueCache(self.depth, fences.count, self.context) if state is None else state
        places = tokens.positions if state is None else cache.continued(tokens)
        longest = max((old + new for old, new in zip(cache.lengths, fences.lengths, strict=True)), default=0)
        self._check(longest)
        bias = None if self.distances is None else self.distances(longest, min(cache.lengths))
        place = Place(fences, self._rotation(places), bias)
        mix = lambda layer, attend, x: attend.extend(x, place, cache, layer)  # noqa: E731
        states, _ = self.through(self.embedded(tokens, places), mix)
        cache.advance(fences)
        return self.logits(states if fences.equal == 1 else states.index_select(0, fences.last())), cache

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the next token, before the softmax."""
        return F.linear(states, self.tokens.weight, self.head_bias) if self.head is None else self.head(states)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[at[m]]) in nats."""
        weight, bias = (self.tokens.weight, self.head_bias) if self.head is None else (self.head.weight, self.head.bias)
        return target_log_probs(states, at, ids, weight, bias)

    def flops_per_token(self, context: int) -> int:
        """As the trunk's, and the output layer, which sees every token."""
        return super().flops_per_token(context) + 6 * self.vocab * self.config.stack.width


class Encoder(Trunk):
    """An encoder-only Transformer that obeys ``contract.BothModel``."""

    reads = "both"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        width = config.stack.width
        self.pooler = nn.Linear(width, width) if config.pooler else None
        head, table = config.head, config.embed.width or width
        self.head = None if head is None else OutputLayer(head, width, self.vocab, table, config.norm.eps)
        self._start()

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, D], and of every sequence with a pooler, [B, D].

        ``keep`` names layers to return: 0 the embeddings as the first layer reads them, l the output of layer l.
        """
        states, layers = self.read(tokens, keep)
        pooled = None
        if self.pooler is not None:
            pooled = torch.tanh(self.pooler(states.index_select(0, tokens.fences.first())))
        return Hidden(states, pooled, layers)

    def states_at(self, tokens: Tokens, at: Int[Tensor, "M"], counts: Sequence[int]) -> Float[Tensor, "M D"]:
        """The states of some tokens only, ``counts`` of them in each sequence, in order: what ``forward`` has at ``at``.

        The last layer's feed-forward, most of its work, sees only these. A bias of distances is for whole sequences.
        """
        if getattr(self, "distances", None) is not None:
            return self.forward(tokens).states.index_select(0, at)
        self._check(max(tokens.fences.lengths, default=0))
        fences, place = Fences.of(counts, at.device), Place(tokens.fences, self._rotation(tokens.positions))
        x = self.embedded(tokens, tokens.positions)
        for number in range(self.depth - 1):
            x = self.layers[number % len(self.layers)](x, lambda attend, inner: attend(inner, place))
        x = self.layers[-1](x, lambda attend, inner: attend.at(inner, place, at, fences), at)
        return self.final_norm(x)

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the token at each given state, before the softmax. Raises ConfigError without an output layer."""
        return self._output()(states, self.tokens.weight)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] at the place of states[at[m]]) in nats; only the states chosen go through the output layer."""
        return self._output().target_log_probs(states.index_select(0, at), ids, self.tokens.weight)

    def trimmed(self, pooler: bool) -> Encoder:
        """The same trunk without the output layer, with a pooler or without; one that wasn't there starts fresh."""
        model = Encoder(self.config.model_copy(update={"head": None, "pooler": pooler}))
        mine, theirs = self.state_dict(), model.state_dict()
        model.load_state_dict({name: mine.get(name, theirs[name]) for name in theirs})
        return model

    def _output(self) -> OutputLayer:
        if self.head is None:
            raise ConfigError("This encoder has no output layer over the vocabulary: it gives states, not words.")
        return self.head
