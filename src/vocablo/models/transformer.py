"""The Transformer (Vaswani et al. 2017), one implementation in three shapes: decoder (GPT), encoder (BERT), and both.

    x_0     = E[w] + P[position] (+ S[segment], normalised)             embeddings            nn/embeddings, nn/positions
    a_l     = x_l + Attention(Norm(x_l))                                residual connection   nn/attention
    x_(l+1) = a_l + W_2 gelu(W_1 Norm(a_l) + b_1) + b_2                 feed-forward          nn/layers

    decoder   p(w_t | w_<t)      = softmax(E Norm(x_L))                 a token sees those before it
    encoder   p(w_t | the rest)  = softmax(E Transform(x_L) + b)        a token sees all of its sequence
              pooled             = tanh(W x_L[first token] + b)         one vector for the sequence
    both      p(y_t | y_<t, x)   = softmax(E Norm(y_L))                 an encoder reads x; each layer of the decoder has
              b_l                = a_l + Attention(Norm(a_l), x_L)      one branch more, whose keys and values are x_L's

That is the pre-norm of GPT-2 (Radford et al. 2019), whose last norm follows the last layer; with ``norm.place = "post"``,
the original order and BERT's, a_l = Norm(x_l + Attention(x_l)) and so on (Devlin et al. 2019). Weights start from
N(0, ``init.std``), in GPT-2 those that end a residual branch divided by sqrt(2 L). Configuration is grouped by part;
``__init__`` turns it into modules and ``forward`` reads none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from vocablo.nn.cache import KeyValueCache, SourceCache
from vocablo.nn.head import target_log_probs
from vocablo.nn.layers import Memory, Place
from vocablo.nn.output import Head, OutputLayer
from vocablo.nn.trunk import Trunk, TrunkSettings, start

FAMILIES = {
    "gpt": "decoder-only Transformer (GPT-2)",
    "bert": "encoder-only Transformer (BERT)",
    "transformer": "encoder-decoder Transformer (Vaswani et al. 2017)",
}
SIZES = {
    "tiny": {
        "gpt": {"stack": {"layers": 2, "width": 128}, "attention": {"heads": 4}},
        "bert": {"stack": {"layers": 2, "width": 128}, "attention": {"heads": 2}},
        "transformer": {"stack": {"layers": 2, "width": 128}, "attention": {"heads": 4}, "decoder": {}},
    },
    "mini": {
        "gpt": {"stack": {"layers": 4, "width": 256}, "attention": {"heads": 4}},
        "bert": {"stack": {"layers": 4, "width": 256}, "attention": {"heads": 4}},
        "transformer": {"stack": {"layers": 3, "width": 256}, "attention": {"heads": 8}, "decoder": {}},
    },
    "small": {
        "gpt": {"stack": {"layers": 6, "width": 384}, "attention": {"heads": 6}},
        "bert": {"stack": {"layers": 4, "width": 512}, "attention": {"heads": 8}},
        "transformer": {"stack": {"layers": 4, "width": 256}, "attention": {"heads": 4}, "decoder": {}},
    },
    "medium": {
        "gpt": {"stack": {"layers": 8, "width": 512}, "attention": {"heads": 8}},
        "bert": {"stack": {"layers": 8, "width": 512}, "attention": {"heads": 8}},
        "transformer": {"stack": {"layers": 6, "width": 384}, "attention": {"heads": 6}, "decoder": {}},
    },
    "base": {
        "gpt": {"stack": {"layers": 12, "width": 768}, "attention": {"heads": 12}},
        "bert": {"stack": {"layers": 12, "width": 768}, "attention": {"heads": 12}},
        "transformer": {"stack": {"layers": 6, "width": 512}, "attention": {"heads": 8}, "decoder": {}},
    },
    "large": {
        "gpt": {"stack": {"layers": 24, "width": 1024}, "attention": {"heads": 16}},
        "bert": {"stack": {"layers": 24, "width": 1024}, "attention": {"heads": 16}},
        "transformer": {"stack": {"layers": 6, "width": 1024}, "attention": {"heads": 16}, "decoder": {}},
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
    "transformer": {
        "embed": {"scaled": True, "dropout": 0.1},
        "position": {"kind": "sinusoidal"},
        "stack": {"causal": False, "dropout": 0.1},
        "feed_forward": {"activation": "relu"},
        "norm": {"place": "post", "final": False},
        "init": {"kind": "xavier", "residual": False},
        "decoder": {},
    },
}


class TargetSide(Settings):
    """What the decoder of an encoder-decoder has of its own; None: as the encoder.

    ``vocab`` None: one vocabulary and one table of tokens for both sides; else the target's table is its own. ``start`` are
    the ids that stand before the first target token; ``max`` is the longest target.
    """

    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)  # of its feed-forwards
    layer_drop: float | None = Field(default=None, ge=0, lt=1)
    before_positions: bool | None = None  # of its norm of the embeddings
    max: int | None = Field(default=None, ge=1)
    vocab: int | None = Field(default=None, ge=1)
    start: tuple[int, ...] = ()


class Config(TrunkSettings):
    """All that defines a Transformer. ``head`` None: no output layer (an encoder kept for its states).

    With a ``decoder``, the other records are the encoder's, and the decoder's where its own says nothing.
    """

    head: Head | None = Head()
    pooler: bool = False
    decoder: TargetSide | None = None

    def target_side(self) -> TrunkSettings:
        """The decoder of an encoder-decoder, as a trunk of its own."""
        assert self.decoder is not None, "of an encoder-decoder"
        own = self.decoder.model_dump(exclude_none=True)
        changes = {
            "embed": {"vocab": own.get("vocab")},
            "position": {"max": own.get("max")},
            "stack": {"causal": True, "layers": own.get("layers"), "layer_drop": own.get("layer_drop")},
            "attention": {"heads": own.get("heads")},
            "feed_forward": {"width": own.get("width")},
            "norm": {"before_positions": own.get("before_positions")},
        }
        parts = {name: {k: v for k, v in values.items() if v is not None} for name, values in changes.items()}
        return self.model_copy(
            update={name: getattr(self, name).model_copy(update=values) for name, values in parts.items()}
        )

    def paired(self, start: Sequence[int], vocab: int | None = None) -> Config:
        """The same with the ids that stand before a target, and a vocabulary of targets of its own (None: one for both)."""
        assert self.decoder is not None, "of an encoder-decoder"
        side = {"start": tuple(start)} | ({} if vocab is None else {"vocab": vocab})
        return self.model_copy(update={"decoder": self.decoder.model_copy(update=side)})

    @model_validator(mode="after")
    def _divides(self) -> Config:
        heads, width = self.attention.heads, self.attention.head_width
        if width is None and self.stack.width % heads:
            raise ValueError(f"stack.width {self.stack.width} isn't a multiple of attention.heads {heads}")
        if 0 < self.position.buckets < 4 or self.position.distance <= self.position.buckets // 4:
            raise ValueError("position.buckets is at least 4, and position.distance more than a quarter of it")
        decoder_heads = heads if self.decoder is None else self.decoder.heads or heads
        if width is None and self.stack.width % decoder_heads:
            raise ValueError(f"stack.width {self.stack.width} isn't a multiple of decoder.heads {decoder_heads}")
        if self.position.kind == "rotary" and (width or self.stack.width // heads) % 2:
            raise ValueError("position.kind 'rotary' needs heads of an even width")
        turned = self.position.turned
        if turned is not None and (turned % 2 or turned > (width or self.stack.width // heads)):
            raise ValueError("position.turned is an even number of dimensions, at most those of a head")
        return self

    @model_validator(mode="after")
    def _layers_are_possible(self) -> Config:
        if self.stack.parallel and (self.norm.place == "post" or self.decoder is not None):
            raise ValueError(
                'stack.parallel: a parallel layer has its norms before (norm.place = "pre"), and looks at no source'
            )
        if self.norm.shared and not self.stack.parallel:
            raise ValueError("norm.shared is of parallel layers (stack.parallel = true)")
        if self.attention.windows and (self.stack.shared or not self.stack.causal):
            raise ValueError("attention.windows are of a decoder whose layers aren't shared")
        return self

    @model_validator(mode="after")
    def _fits_its_shape(self) -> Config:
        if self.decoder is not None:
            self._fits_two_stacks()
        elif self.stack.causal:
            lone = self.pooler or self.head is None or self.head.transform or self.head.width or self.head.scaled
            if lone or self.embed.segments or self.embed.width:
                raise ValueError(
                    "stack.causal: a decoder has an output layer, and no pooler, embed.segments, embed.width, "
                    "head.transform, head.width or head.scaled: these belong to an encoder (stack.causal = false)"
                )
        elif self.head is not None and self.head.tied and not self.head.transform and self.embed.width is not None:
            raise ValueError("head.tied with embed.width needs head.transform, which leads back to the table's width")
        elif self.head is not None and self.head.tied and self.head.width is not None:
            raise ValueError("head.width is of a head that isn't tied: the token table has a width already")
        return self

    def _fits_two_stacks(self) -> None:
        head = self.head
        if head is None or head.transform or head.width or self.pooler or self.embed.segments or self.embed.width:
            raise ValueError(
                "decoder: an encoder-decoder has an output layer, and no pooler, embed.segments, embed.width, "
                "head.transform or head.width"
            )
        if self.stack.causal:
            raise ValueError("decoder: the encoder reads both ways (stack.causal = false)")
        if self.position.buckets and self.position.distance <= self.position.buckets // 2:
            raise ValueError("position.distance is more than half of position.buckets in an encoder-decoder")


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
    if config.decoder is not None:
        return "transformer"
    return "gpt" if config.stack.causal else "bert"


def build(config: Config) -> Decoder | Encoder | EncoderDecoder:
    """A model with fresh weights from torch's current random state."""
    if config.decoder is not None:
        return EncoderDecoder(config)
    return Decoder(config) if config.stack.causal else Encoder(config)


class Decoder(Trunk):
    """A decoder-only Transformer that obeys ``contract.LeftModel``."""

    reads = "left"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        head = config.head or Head()
        self.head = None if head.tied else nn.Linear(config.stack.width, self.vocab, bias=head.bias)
        self.head_bias = nn.Parameter(torch.zeros(self.vocab)) if head.tied and head.bias else None
        self.step: Any = None  # ``extend`` in one call, where nn/quantize.py has made the weights compact
        start(self, config.init, self)

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
        states = self.read_on(tokens, cache, tokens.positions if state is None else cache.continued(tokens))
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
        start(self, config.init, self)

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


class EncoderDecoder(nn.Module):
    """An encoder that reads a source and a decoder that predicts a target, obeying ``contract.SourceTargetModel``."""

    reads = "source_target"
    carries = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert config.decoder is not None, "of an encoder-decoder"
        side, width = config.target_side(), config.stack.width
        self.config, self.start = config, config.decoder.start
        self.vocab, self.source_vocab = side.embed.vocab, config.embed.vocab
        self.context, self.source_context = side.position.max, config.position.max
        self.tokens = nn.Embedding(self.source_vocab, width)
        self.target_tokens = None if config.decoder.vocab is None else nn.Embedding(self.vocab, width)
        self.encoder = Trunk(config, table=False)
        self.decoder = Trunk(side, cross=True, table=False)
        self.encoder.reading, self.decoder.reading = "source", "target"
        head = config.head or Head()
        self.head = OutputLayer(head, width, self.vocab, width, config.norm.eps)
        start(self, config.init, self.encoder, self.decoder)

    @property
    def table(self) -> nn.Embedding:
        """The table of target tokens."""
        return self.tokens if self.target_tokens is None else self.target_tokens

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every target token, [N, D], which have seen those before it and all of its source.

        ``keep`` names the decoder's layers to return: 0 what the first reads, l the output of layer l.
        """
        if source is None or source.fences.count != tokens.fences.count:
            raise ConfigError("An encoder-decoder needs a source for each target.")
        memory = Memory(self.read_source(source), source.fences)
        states, layers = self.decoder.read(tokens, keep, self.table, memory)
        return Hidden(states, layers=layers)

    def read_source(self, source: Tokens) -> Float[Tensor, "S D"]:
        """The encoder's states of every source token. Raises ConfigError for an empty source or one too long."""
        if 0 in source.fences.lengths:
            raise ConfigError(f"Source {source.fences.lengths.index(0) + 1} is empty: there is nothing to read.")
        return self.encoder.read(source, table=self.tokens)[0]

    def encode(self, source: Tokens) -> SourceCache:
        """Read B sources; nothing is decoded yet. Keys and values of every decoder layer are made here, once."""
        states, layers = self.read_source(source), self.decoder.layers
        memory = [layer.cross.remembered(states) for layer in layers]  # type: ignore[union-attr, operator]
        if len(layers) < self.decoder.depth:
            memory *= self.decoder.depth
        return SourceCache.of(self.decoder.depth, self.context, source.fences, memory)

    def extend(self, tokens: Tokens, state: SourceCache) -> tuple[Float[Tensor, "B V"], SourceCache]:
        """Read more target tokens of each of B sequences, ``start`` first; logits after each one's last."""
        fences = tokens.fences
        state.begin(fences)
        states = self.decoder.read_on(tokens, state, state.continued(tokens), self.table)
        return self.logits(states if fences.equal == 1 else states.index_select(0, fences.last())), state

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the next target token, before the softmax."""
        return self.head(states, self.table.weight)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | the source and what states[at[m]] has read) in nats."""
        return self.head.target_log_probs(states.index_select(0, at), ids, self.table.weight)

    def smoothed_log_probs(
        self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"], smoothing: float
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
        """The same against targets that are smoothed, and the plain ones without a gradient: ``nn/head.smoothed_log_probs``."""
        return self.head.smoothed_log_probs(states.index_select(0, at), ids, self.table.weight, smoothing)

    def flops_per_token(self, context: int) -> int:
        """Of one target token and one source token, forward and backward, with the output layer."""
        side = self.decoder.config
        width = side.attention.heads * (side.attention.head_width or side.stack.width // side.attention.heads)
        cross = 12 * self.decoder.depth * width * context
        both = self.encoder.flops_per_token(context) + self.decoder.flops_per_token(context)
        return both + cross + 6 * self.vocab * self.config.stack.width
