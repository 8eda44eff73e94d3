"""Translation by recurrent networks, with attention (Bahdanau et al. 2015, Luong et al. 2015) or without (Cho et al. 2014).

    encoder      h_j = [forward RNN; backward RNN](E x_j)             every source token read in both directions
                 s_0 = tanh(W [forward h_S; backward h_1] + b)        where both ended: the bottleneck

    additive     c_i = attention(s_(i-1), h)                          nn/source_attention
                 s_i = RNN([E y_(i-1); c_i], s_(i-1))                 p(y_i) = softmax(W_o [s_i; c_i; E y_(i-1)] + b_o)
    none         the same, with c_i = [forward h_S; backward h_1] at every step
    dot,         s_i = RNN(E y_(i-1), s_(i-1))                        c_i = attention(s_i, h)
    general      u_i = tanh(W_c [s_i; c_i])                           p(y_i) = softmax(W_o u_i + b_o)

The additive decoder's steps wait for one another; the others read a whole target at once when it is given (``nn/recurrent``).
With ``teacher_forcing`` p below 1 the decoder reads, in training, its own best token instead of the given one at a step with
probability 1 - p. An LSTM's cells start at zero. Luong's input feeding is left out, so that targets can be read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn import taps
from vocablo.nn.dropout import Dropout
from vocablo.nn.head import smoothed_log_probs, target_log_probs
from vocablo.nn.pooling import pool
from vocablo.nn.recurrent import MODULES, Packing, RecurrentStack, RecurrentState, outputs, turn
from vocablo.nn.source_attention import Kind, Memory, SourceAttention, Translating
from vocablo.nn.within import members

FAMILIES = {"seq2seq-rnn": "recurrent encoder and decoder, with attention or without (translation)"}
SIZES = {
    "tiny": {"embed": {"width": 64}, "stack": {"width": 64}},
    "mini": {"embed": {"width": 128}, "stack": {"width": 128}},
    "small": {"embed": {"width": 256}, "stack": {"width": 512, "dropout": 0.5}},
    "medium": {"embed": {"width": 512}, "stack": {"width": 512, "layers": 2, "dropout": 0.3}},
    "base": {"embed": {"width": 620}, "stack": {"width": 1000}},
    "large": {"embed": {"width": 1000}, "stack": {"width": 1000, "layers": 4, "kind": "lstm", "dropout": 0.2}},
}


class Embed(Settings):
    """The tables of tokens: ``vocab`` source tokens (and target tokens, if the decoder doesn't say otherwise)."""

    vocab: int = Field(ge=1)
    width: int = Field(default=256, ge=1)


class Stack(Settings):
    """The recurrent layers of both sides; ``both``: the encoder reads both ways. Dropout is on embeddings and between layers."""

    kind: Literal["elman", "gru", "lstm"] = "gru"
    layers: int = Field(default=1, ge=1)
    width: int = Field(default=512, ge=1)
    both: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Attention(Settings):
    """How the decoder looks at the source; ``width`` of the additive kind, None: the decoder's."""

    kind: Kind = "additive"
    width: int | None = Field(default=None, ge=1)


class TargetSide(Settings):
    """What the decoder has of its own; None: as the encoder. ``start`` are the ids before the first target token."""

    vocab: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    start: tuple[int, ...] = ()
    teacher_forcing: float = Field(default=1.0, ge=0, le=1)


class Init(Settings):
    """N(0, ``std``) for weights and 0 for biases; None: torch's own way."""

    std: float | None = Field(default=None, gt=0)


class Config(Settings):
    """All that defines a recurrent translator."""

    embed: Embed
    stack: Stack = Stack()
    attention: Attention = Attention()
    decoder: TargetSide = TargetSide()
    init: Init = Init()

    @property
    def memory(self) -> int:
        """M, the width of the encoder's states."""
        return self.stack.width * (2 if self.stack.both else 1)

    @property
    def width(self) -> int:
        """D, the width of the decoder's states: dot products need that of the encoder's."""
        return self.decoder.width or (self.memory if self.attention.kind == "dot" else self.stack.width)

    def paired(self, start: tuple[int, ...], vocab: int | None) -> Config:
        """The same with what begins a target, and the size of its vocabulary if it has its own, where that isn't said yet."""
        own = {"start": self.decoder.start or start, "vocab": self.decoder.vocab or vocab}
        return self.model_copy(update={"decoder": self.decoder.model_copy(update=own)})

    @model_validator(mode="after")
    def _dots(self) -> Config:
        if self.attention.kind == "dot" and self.width != self.memory:
            raise ValueError(
                f"attention.kind 'dot' needs decoder.width {self.memory}, as wide as the encoder's states; it is {self.width}"
            )
        return self


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration at a size; ``changes`` win. ``attention=dot`` stands for ``attention.kind=dot``, ``dropout`` for the
    stack's. ``vocab`` is the source's; ``context`` is no limit here."""
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    rest = {key: value for key, value in changes.items() if key != "dropout"}
    if isinstance(rest.get("attention"), str):
        rest["attention"] = {"kind": rest["attention"]}
    layers: list[tuple[str, Mapping[str, Any]]] = [("size", SIZES[size])]
    if "dropout" in changes:
        layers.append(("dropout", {"stack": {"dropout": changes["dropout"]}}))
    layers += [("given", {"embed": {"vocab": vocab}}), ("model", rest)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "seq2seq-rnn"


def build(config: Config) -> RecurrentTranslator:
    """A model with fresh weights from torch's current random state."""
    return RecurrentTranslator(config)


class RecurrentTranslator(nn.Module):
    """A recurrent encoder and decoder that obey ``contract.SourceTargetModel``."""

    reads = "source_target"
    carries = False
    context = None
    source_context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.start = config, config.decoder.start
        self.source_vocab, self.vocab = config.embed.vocab, config.decoder.vocab or config.embed.vocab
        stack, attention, embed = config.stack, config.attention, config.embed.width
        memory, width = config.memory, config.width
        self.tokens, self.target_tokens = nn.Embedding(self.source_vocab, embed), nn.Embedding(self.vocab, embed)
        widths = [embed] + [memory] * (stack.layers - 1)
        self.encoder = nn.ModuleList(
            MODULES[stack.kind](size, stack.width, bidirectional=stack.both) for size in widths
        )
        self.bridge = nn.Linear(memory, width * stack.layers)
        self.attention = SourceAttention(attention.kind, width, memory, attention.width or width)
        self.early = attention.kind in ("additive", "none")  # whether a step reads its context
        self.decoder = RecurrentStack(
            stack.kind, embed + memory if self.early else embed, width, stack.layers, stack.dropout
        )
        self.mix = None if self.early else nn.Linear(width + memory, width, bias=False)
        self.head = nn.Linear(width + memory + embed if self.early else width, self.vocab)
        self.drop = Dropout(stack.dropout)
        if config.init.std is not None:
            for name, parameter in self.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.normal_(parameter, std=config.init.std)

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """What the output layer reads of every target token, [N, F], given those before it and the whole source.

        ``keep`` names layers to return, of which there is one: 0, the embeddings of the target.
        """
        if source is None or source.fences.count != tokens.fences.count:
            raise ConfigError("A translator needs a source for each target.")
        y = self.drop(self.target_tokens(tokens.ids))
        states, after = self._decode(y, tokens.fences, self.encode(source))
        if after.weights is not None and taps.watched():
            taps.record_weights(self.attention, self._spread(after.weights, tokens.fences, source.fences))
        return Hidden(states, layers=tuple(y for layer in keep if layer == 0))

    def encode(self, source: Tokens) -> Translating:
        """Read B sources. Raises ConfigError for an empty one."""
        fences = source.fences
        if 0 in fences.lengths:
            raise ConfigError(f"Source {fences.lengths.index(0) + 1} is empty: there is nothing to read.")
        x = outputs(self.encoder, self.drop(self.tokens(source.ids)), fences, self.drop)[-1]
        summary = pool(x, fences, "ends" if self.config.stack.both else "last")
        hidden = torch.tanh(self.bridge(summary)).chunk(self.config.stack.layers, dim=1)
        cells = tuple(torch.zeros_like(part) for part in hidden) if self.config.stack.kind == "lstm" else ()
        if self.config.attention.kind == "none":
            memory = Memory(summary[:, None], summary[:, None], (1,) * fences.count, None)
        else:
            memory = self.attention.remember(x, fences)
        owners = torch.arange(fences.count, device=x.device)
        return Translating(RecurrentState(tuple(hidden), cells), memory, owners)

    def extend(self, tokens: Tokens, state: Translating) -> tuple[Float[Tensor, "B V"], Translating]:
        """Read more target tokens of each of B sequences, ``start`` first; logits after each one's last."""
        fences = tokens.fences
        last = fences.last()
        states, after = self._decode(self.target_tokens(tokens.ids), fences, state)
        weights = after.weights if after.weights is None or fences.equal == 1 else after.weights[last]
        chosen = states if fences.equal == 1 else states.index_select(0, last)
        return self.logits(chosen), Translating(after.recurrent, state.memory, state.owners, weights)

    def logits(self, states: Float[Tensor, "M F"]) -> Float[Tensor, "M V"]:
        """Scores of the next target token, before the softmax."""
        return self.head(states)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | the source and what states[at[m]] has read) in nats."""
        return target_log_probs(states, at, ids, self.head.weight, self.head.bias)

    def smoothed_log_probs(
        self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"], smoothing: float
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
        """The same against targets that are smoothed, and the plain ones without a gradient: ``nn/head.smoothed_log_probs``."""
        return smoothed_log_probs(states, at, ids, self.head.weight, self.head.bias, smoothing)

    @property
    def attended(self) -> Callable[[Translating], Tensor | None] | None:
        """How the attention [R, L] of a state's last step is read; None without attention."""
        return None if self.config.attention.kind == "none" else lambda state: state.weights

    def flops_per_token(self, context: int) -> int:
        """Of one target token and one source token, forward and backward, with the output layer and the looking."""
        tables = self.tokens.weight.numel() + self.target_tokens.weight.numel()
        wide = self.config.memory + (self.config.attention.width or self.config.width)
        looking = 0 if self.config.attention.kind == "none" else 6 * wide * context
        return 6 * (sum(parameter.numel() for parameter in self.parameters()) - tables) + looking

    # The decoder

    def _decode(
        self, y: Float[Tensor, "N E"], fences: Fences, state: Translating
    ) -> tuple[Float[Tensor, "N F"], Translating]:
        """Target embeddings read on from ``state``: what the output layer reads, the layers afterwards, and the attention [N, L]."""
        guesses = self.training and self.config.decoder.teacher_forcing < 1
        if self.config.attention.kind == "additive" or guesses:
            return self._step_by_step(y, fences, state, guesses)
        rows = members(fences, y.device) if fences.equal != 1 else torch.arange(len(y), device=y.device)
        if self.early:
            context = state.memory.values[:, 0].index_select(0, state.owners.index_select(0, rows))
            s, after = self.decoder(torch.cat([y, context], 1), fences, state.recurrent)
            return torch.cat([s, context, y], 1), Translating(after, state.memory, state.owners)
        s, after = self.decoder(y, fences, state.recurrent)
        context, weights = self._look_at_once(s, fences, state, rows)
        assert self.mix is not None
        mixed = torch.tanh(self.mix(torch.cat([s, context], 1)))
        return mixed, Translating(after, state.memory, state.owners, weights)

    def _look_at_once(
        self, s: Float[Tensor, "N D"], fences: Fences, state: Translating, rows: Int[Tensor, "N"]
    ) -> tuple[Tensor, Tensor]:
        """Contexts and weights of all states, those of one source together."""
        each = state.each()
        if each is not None and fences.equal is not None:
            shape = (len(state.memory.lengths), each * fences.equal, -1)
            context, weights = self.attention(s.view(shape), state.memory)
            return context.flatten(0, 1), weights.flatten(0, 1)
        memory = state.memory if each == 1 else state.memory.rows(state.owners)
        width = max(fences.lengths)
        steps = torch.arange(width, device=s.device)
        ends, starts = (torch.tensor(x, device=s.device) for x in (fences.lengths, fences.starts()[:-1]))
        places = starts[:, None] + torch.minimum(steps, (ends - 1).clamp(min=0)[:, None])
        context, weights = self.attention(s.index_select(0, places.flatten()).view(*places.shape, -1), memory)
        inside = rows * width + (torch.arange(len(s), device=s.device) - starts[rows])
        weights = weights.flatten(0, 1).index_select(0, inside)
        longest = state.memory.keys.shape[1]  # rows of fewer sources may be shorter
        weights = nn.functional.pad(weights, (0, longest - weights.shape[1]))
        return context.flatten(0, 1).index_select(0, inside), weights

    def _step_by_step(
        self, y: Float[Tensor, "N E"], fences: Fences, state: Translating, guesses: bool
    ) -> tuple[Tensor, Translating]:
        """One target token of every sequence at a time, longest sequences first."""
        packing = Packing.of(fences, y.device)
        sizes = packing.sizes.tolist()
        steps, made = list(y.index_select(0, packing.order).split(sizes)), []
        each = state.each()
        together = each if fences.equal == 1 else None  # hypotheses of a source look at it together
        order = None if together is not None else packing.sorted
        owners = state.owners if order is None else state.owners.index_select(0, order)
        memory = state.memory if order is None else state.memory.rows(owners)
        layers = state.recurrent if order is None else state.recurrent.select(order)
        ready = None if guesses else self._ready(steps)
        # Sliced once, not at every step: the gradient of a slice is as large as the whole.
        reads_context = self.decoder.layers[0].weight_ih_l0[:, y.shape[1] :]  # type: ignore[index]
        ends: list[RecurrentState] = []
        for t, n in enumerate(sizes):
            if t and n < sizes[t - 1]:
                ends.append(layers.rows(slice(n, None)))
                layers = layers.rows(slice(0, n))
                memory = memory.first(n)
            if guesses and t and float(torch.rand(())) >= self.config.decoder.teacher_forcing:
                with torch.no_grad():
                    best = self.logits(made[-1][0][:n]).argmax(1)
                steps[t] = self.drop(self.target_tokens(best))
            given = self._ready([steps[t]])[0] if ready is None else ready[t]
            out, layers, weights = self._step(steps[t], given, reads_context, memory, layers, together)
            made.append((out, weights))
        after = RecurrentState.joined([layers, *reversed(ends)])
        if order is not None:
            after = after.select(packing.unsorted)
        states = torch.cat([out for out, _ in made]).index_select(0, packing.inverse)
        if self.config.attention.kind == "none":
            return states, Translating(after, state.memory, state.owners)
        longest = state.memory.keys.shape[1]
        weights = torch.cat([nn.functional.pad(w, (0, longest - w.shape[1])) for _, w in made])
        return states, Translating(after, state.memory, state.owners, weights.index_select(0, packing.inverse))

    def _ready(self, steps: list[Tensor]) -> list[Tensor]:
        """What the target tokens alone bring to the first layer's gates, for all steps in one product."""
        first = self.decoder.layers[0]
        embed = steps[0].shape[1]
        whole = torch.cat(steps)
        gates = nn.functional.linear(whole, first.weight_ih_l0[:, :embed], first.bias_ih_l0)  # type: ignore[index, arg-type]
        return list(gates.split([len(step) for step in steps]))

    def _step(
        self,
        y: Tensor,
        given: Tensor,
        reads_context: Tensor,
        memory: Memory,
        layers: RecurrentState,
        together: int | None,
    ) -> tuple[Tensor, RecurrentState, Tensor]:
        """One token of n sequences: what the output layer reads [n, F], the layers, and the attention [n, L].

        ``given`` is what the token brings to the first layer's gates, ``reads_context`` the weights of the context there.
        """
        context, weights = self._look(layers.hidden[-1], memory, together) if self.early else (None, None)
        if context is not None:
            given = given + context @ reads_context.t()
        hidden, cells = [], []
        for number, layer in enumerate(self.decoder.layers):
            if number:
                given = nn.functional.linear(self.drop(hidden[-1]), layer.weight_ih_l0, layer.bias_ih_l0)  # type: ignore[arg-type]
            cell = layers.cells[number] if layers.cells else None
            h, cell = turn(self.decoder.kind, layer, given, layers.hidden[number], cell)
            hidden.append(h)
            cells += [] if cell is None else [cell]
        after = RecurrentState(tuple(hidden), tuple(cells))
        if context is not None and weights is not None:
            return torch.cat([hidden[-1], context, y], 1), after, weights
        assert self.mix is not None
        context, weights = self._look(hidden[-1], memory, together)
        return torch.tanh(self.mix(torch.cat([hidden[-1], context], 1))), after, weights

    def _look(self, s: Float[Tensor, "n D"], memory: Memory, together: int | None) -> tuple[Tensor, Tensor]:
        """The contexts and weights of n states: one of each source, or ``together`` of each."""
        shape = (len(memory.lengths), together or 1, -1)
        if self.config.attention.kind == "none":
            context = memory.values.expand(-1, shape[1], -1).flatten(0, 1)
            return context, context.new_ones(len(context), 1)
        context, weights = self.attention(s.view(shape), memory)
        return context.flatten(0, 1), weights.flatten(0, 1)

    def _spread(self, weights: Float[Tensor, "N L"], targets: Fences, sources: Fences) -> list[Tensor]:
        """The attention [1, T, S] of each pair."""
        parts = weights.split(targets.lengths)
        return [part[None, :, :length] for part, length in zip(parts, sources.lengths, strict=True)]
