"""The records and protocols that let rooms speak without knowing one another.

Legend of axes, the same everywhere:

    B sequences          N tokens of a batch, all sequences joined      T positions of one sequence
    M targets            D width      H heads      K head width         V vocabulary      L layers

A batch has no padding: tokens lie flat, ``[N]``, and ``Fences`` say where the sequences begin. Only attention and
recurrence look at the fences; embeddings, norms, feed-forwards, heads and losses never see a pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Fences:
    """Where the B sequences of a flat batch begin: on the device (``cu``) and as host integers, so nobody has to sync."""

    lengths: tuple[int, ...]
    cu: Int[Tensor, "B+1"]  # int32, cu[0] = 0, cu[-1] = N

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Fences:
        lengths = tuple(int(length) for length in lengths)
        return cls(lengths, torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device))

    @property
    def count(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def total(self) -> int:
        """N."""
        return sum(self.lengths)

    @property
    def equal(self) -> int | None:
        """The common length when all sequences have the same one (then ``x.view(B, T, ...)`` is legal), else None."""
        return self.lengths[0] if self.lengths and len(set(self.lengths)) == 1 else None

    def starts(self) -> tuple[int, ...]:
        """Host offsets of the sequences: B + 1 integers from 0 to N."""
        return (0, *accumulate(self.lengths))

    def first(self) -> Int[Tensor, "B"]:
        """Index into N of every sequence's first token; no sequence may be empty."""
        return self.cu[:-1].long()

    def last(self) -> Int[Tensor, "B"]:
        """Index into N of every sequence's last token."""
        return (self.cu[1:] - 1).long()

    def to(self, device: torch.device | str) -> Fences:
        return Fences(self.lengths, self.cu.to(device))


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a family reads. Positions count from 0 within each sequence unless a state is continued."""

    ids: Int[Tensor, "N"]
    fences: Fences
    positions: Int[Tensor, "N"]
    segments: Int[Tensor, "N"] | None = None
    chars: Int[Tensor, "N C"] | None = None
    tables: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]] | Int[Tensor, "B T"], device: torch.device | str = "cpu") -> Tokens:
        """Flat tokens from a list of id sequences, or from a dense ``[B, T]`` tensor of equal lengths."""
        if isinstance(sequences, Tensor):
            rows, width = sequences.shape
            fences = Fences.of([width] * rows, device)
            positions = torch.arange(width, device=device).repeat(rows)
            return cls(sequences.reshape(-1).to(device), fences, positions)
        lengths = [len(sequence) for sequence in sequences]
        flat = [int(item) for sequence in sequences for item in sequence]
        positions = [position for length in lengths for position in range(length)]
        make = lambda values: torch.tensor(values, dtype=torch.long, device=device)  # noqa: E731
        return cls(make(flat), Fences.of(lengths, device), make(positions))

    def to(self, device: torch.device | str) -> Tokens:
        move = lambda value: None if value is None else value.to(device)  # noqa: E731
        return Tokens(
            self.ids.to(device),
            self.fences.to(device),
            self.positions.to(device),
            move(self.segments),
            move(self.chars),
            {name: table.to(device) for name, table in self.tables.items()},
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Rows of states, or of sequences, that carry a loss: ``at`` indexes them, ``value`` is the id to predict there.

    A task may ask for numbers (regression); what its rows are is the task's to say.
    """

    at: Int[Tensor, "M"]
    value: Int[Tensor, "M"] | Float[Tensor, "M"]
    count: int
    weight: Float[Tensor, "M"] | None = None

    def to(self, device: torch.device | str) -> Target:
        weight = None if self.weight is None else self.weight.to(device)
        return Target(self.at.to(device), self.value.to(device), self.count, weight)


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything one micro-batch needs; ``targets`` are named after the loss that they belong to.

    ``groups`` say which sequences make one example (the choices of a question, the sentences of a document): fences over
    the B sequences.
    """

    tokens: Tokens
    targets: dict[str, Target] = field(default_factory=dict)
    source: Tokens | None = None
    groups: Fences | None = None

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.tokens.to(device),
            {name: target.to(device) for name, target in self.targets.items()},
            None if self.source is None else self.source.to(device),
            None if self.groups is None else self.groups.to(device),
        )


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a family returns: states of every token, and optional parts that are None, never a longer tuple."""

    states: Tensor  # [N, D]; for counted families the histories themselves, [N, n - 1] ids
    pooled: Float[Tensor, "B D"] | None = None
    layers: tuple[Tensor, ...] = ()  # the layers named in ``keep``, in that order
    state: Any = None  # what ``forward`` needs to go on where this batch ends (recurrent families)
    weights: tuple[
        Tensor, ...
    ] = ()  # of attention as pooling: what each token weighs, [N]; of documents each sentence, [B]


@dataclass(frozen=True, slots=True)
class Term:
    """A named part of a loss: a sum and how many targets it sums. The trainer divides once, by the whole step's count.

    ``correct``: for how many of them the most probable value was the right one, where that costs nothing to know.
    """

    total: Float[Tensor, ""]
    count: int
    weight: float = 1.0
    correct: Int[Tensor, ""] | None = None


@runtime_checkable
class DecodeState(Protocol):
    """RNN state and key-value cache alike: what ``extend`` has read so far, for B sequences."""

    def select(self, rows: Int[Tensor, "B2"]) -> DecodeState:
        """The state of the given rows, in that order, repeats allowed (beam search, several samples of a prompt)."""
        ...


@runtime_checkable
class LeftModel(Protocol):
    """A family with ``reads == "left"``: it predicts each token from those before it."""

    reads: str
    vocab: int
    context: int | None  # longest sequence it can read; None: no limit

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token. ``state`` continues a stream (families with ``carries``)."""
        ...

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | what states[at[m]] has read), in nats; the N x V matrix is never made whole."""
        ...

    def logits(self, states: Tensor) -> Float[Tensor, "M V"]:
        """Unnormalised log-probabilities of the next token after each given state (normalised ones will do)."""
        ...

    def extend(self, tokens: Tokens, state: DecodeState | None) -> tuple[Float[Tensor, "B V"], DecodeState]:
        """Read more tokens of each of B sequences (a prompt or one step) and return logits after each one's last."""
        ...


@runtime_checkable
class BothModel(Protocol):
    """A family with ``reads == "both"``: the state of a token has seen all of its sequence."""

    reads: str
    vocab: int
    context: int | None

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, and ``pooled`` of every sequence in a family with a pooler."""
        ...

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] at the place of states[at[m]] | its sequence), in nats; only the rows of ``at`` are computed."""
        ...

    def logits(self, states: Tensor) -> Float[Tensor, "M V"]:
        """Unnormalised log-probabilities of the token at the place of each given state."""
        ...


@runtime_checkable
class SourceTargetModel(Protocol):
    """A family with ``reads == "source_target"``: it predicts each token of a target from those before it and a source.

    A target sequence is what the model reads: ``start``, then the tokens; its state at ``start`` predicts the first of
    them, and the last one predicts the tokenizer's end. Sequence b of ``tokens`` belongs to sequence b of ``source``.
    """

    reads: str
    vocab: int  # of targets
    context: int | None  # longest target it can read, ``start`` among it; None: no limit
    source_context: int | None  # longest source it can read; None: no limit
    start: tuple[int, ...]  # ids that stand before the first target token

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every target token, [N, D], given those before it and the whole source (teacher forcing)."""
        ...

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | the source and what states[at[m]] has read), in nats."""
        ...

    def smoothed_log_probs(
        self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"], smoothing: float
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
        """The same against targets that are smoothed, and the plain ones without a gradient: ``nn/head.smoothed_log_probs``."""
        ...

    def logits(self, states: Tensor) -> Float[Tensor, "M V"]:
        """Unnormalised log-probabilities of the next target token after each given state."""
        ...

    def encode(self, source: Tokens) -> DecodeState:
        """Read B sources; nothing is decoded yet. ``select`` copies what belongs to a source with its row."""
        ...

    def extend(self, tokens: Tokens, state: DecodeState) -> tuple[Float[Tensor, "B V"], DecodeState]:
        """Read more target tokens of each of B sequences (first ``start``) and return logits after each one's last."""
        ...


@runtime_checkable
class DocumentModel(Protocol):
    """A family with ``reads == "document"``: sequences are sentences, of which ``groups`` say how many make a document."""

    reads: str
    vocab: int
    context: int | None
    width: int  # D of a document's vector

    def forward(
        self,
        tokens: Tokens,
        source: Tokens | None = None,
        state: Any = None,
        keep: tuple[int, ...] = (),
        groups: Fences | None = None,
    ) -> Hidden:
        """States of words, and ``pooled`` [G, D] of every document; ``groups`` None: each sentence is one.

        ``weights``, of a family that attends: of words in their sentences, [N], and of sentences in their documents, [B].
        """
        ...


@runtime_checkable
class TwoWayModel(Protocol):
    """A family with ``reads == "two_way"``: it predicts each token from those before it, and again from those after it.

    A state is [h; g]: h has read its sequence from the left up to its token and with it, g from the right. Token i is
    therefore told by the forward half of the state before it and by the backward half of the state behind it.
    """

    reads: str
    vocab: int
    words: int  # V of what is predicted: the first of the vocabulary
    context: int | None

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: Any = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, 2 D]."""
        ...

    def target_log_probs(
        self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"], direction: Any = "forward"
    ) -> Float[Tensor, "M"]:
        """log p(ids[m] | what states[at[m]] has read in a direction, "forward" or "backward"), in nats."""
        ...

    def logits(self, states: Tensor, direction: Any = "forward") -> Float[Tensor, "M V"]:
        """Unnormalised log-probabilities of the token after each state, or before it (``backward``)."""
        ...
