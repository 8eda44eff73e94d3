"""What the pretexts share that cut a store into rows without carrying a state: which rows a step has, in which order.

``order`` says how text is cut:

* ``shuffled``: blocks of ``body`` tokens of the stream, the last one shorter, from a new offset each epoch. A block may hold
  several documents, with the boundary between them (RoBERTa's FULL-SENTENCES);
* ``documents``: each document is a row, cut where it is longer than ``body``;
* ``sentences``: each sentence is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch
from vocablo.data.order import shuffled
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._rows import Ints, MarkedStream, Sentences


class BlockPretext:
    """A pretext but for its batches and its loss: a file's own has ``names``, ``make``, ``terms`` and ``check``.

    ``batch`` is the number of sequences of an optimizer step over all ranks, ``micro`` how many of them go through the
    model at once, ``context`` the longest sequence in tokens, ``around`` special ones of it included. Raises ConfigError
    where that leaves no room, DataError when there is too little text.
    """

    def __init__(
        self, store: MarkedStream, settings: Any, *, around: int, seed: int, batch: int, micro: int | None, context: int
    ) -> None:
        if min(batch, context, micro or 1) < 1:
            raise ConfigError(f"batch, micro and context are at least 1; got {batch}, {micro} and {context}.")
        self.store, self.settings, self.seed = store, settings, seed
        self.batch, self.micro, self.context = batch, micro or batch, context
        self.around, self.body = around, context - around
        if self.body < 1:
            raise ConfigError(f"A context of {context} has no room beside {around} special tokens.")
        count = len(store.tokens)
        fixed = self.cut(store, 0)
        self._fixed = None if settings.order == "shuffled" else fixed
        sizes = fixed[1]
        if not len(sizes):
            raise DataError("The store has no tokens: give some text.")
        if settings.order == "shuffled" and count < self.body:
            raise DataError(
                f"The text has {count} tokens, fewer than one block of {self.body}: give more text or a smaller context."
            )
        self._rows = len(sizes)
        self.tokens = int(sizes.sum()) + self._rows * around
        self._epoch: tuple[int, Ints, Ints] | None = None

    def make(
        self, store: MarkedStream, starts: Ints, lengths: Ints, share: slice, seed: int, *stream: int | str
    ) -> Batch:
        """The batch of some rows of all those that ``seed`` and ``stream`` make draws for."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every token is read once."""
        return rows.ceil(self._rows, self.batch)

    def continues(self, step: int) -> bool:
        """No state is carried from step to step."""
        return False

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """The part of optimizer step ``step`` (from 0) that ``rank`` works on: a pure function of the arguments.

        The sequences of the step, and what is drawn for each, are the same for every ``micro`` and ``world``.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            offset = int(generator(self.seed, "offset", epoch).integers(self.body))
            starts, lengths = self._fixed or self.cut(self.store, offset)
            order = shuffled(len(starts), self.seed, epoch)
            self._epoch = (epoch, starts[order], lengths[order])
        here = slice(index * self.batch, (index + 1) * self.batch)
        starts, lengths = self._epoch[1][here], self._epoch[2][here]
        shares = rows.shares(len(starts), self.micro, rank, world)
        return [self.make(self.store, starts, lengths, share, self.seed, "mask", step) for share in shares]

    def validation(
        self, store: MarkedStream, rank: int = 0, world: int = 1, batches: int | None = None
    ) -> Iterator[Batch]:
        """A held-out store cut in the same way, unshuffled, with draws that are the same each time and for every seed.

        ``batches`` limits the work to so many batches of each rank, evenly spread over the store.
        """
        starts, lengths = self.cut(store, 0)
        for share in rows.spread(len(starts), self.micro, rank, world, batches):
            yield self.make(store, starts, lengths, share, 0, "validation")

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """Make the modules of the loss for a model: none."""

    def modules(self) -> nn.ModuleDict | None:
        """Modules of the loss itself: none."""
        return None

    def plateau(self) -> tuple[str, float] | None:
        """Where the loss may stay without anything learnt of context: not known to happen here."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sequence of batches; a resumed run must have the same."""
        return {
            "pretext": self.settings.name,
            **self.settings.model_dump(),
            "context": self.context,
            "batch": self.batch,
            "micro": self.micro,
            "seed": self.seed,
            "tokens": self.tokens,
            "tokens_crc32": rows.crc32(self.store.tokens),
        }

    def cut(self, store: MarkedStream, offset: int) -> tuple[Ints, Ints]:
        """Starts and lengths of all rows, without their special tokens; ``offset`` moves the cuts of ``shuffled``."""
        if self.settings.order == "shuffled":
            return rows.windows(len(store.tokens), self.body, offset)
        if self.settings.order == "documents":
            return rows.pieces(store.documents[:-1], store.documents[1:] - 1, self.body)
        sentences = Sentences.of(store)
        return rows.pieces(sentences.starts, sentences.stops, self.body)
