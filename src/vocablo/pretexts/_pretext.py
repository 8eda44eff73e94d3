"""What every pretext of a store shares: its settings' checks, which rows a step has, in which order, and what a run is told by.

A pretext's rows are a record with ``len`` and ``take(at)``: spans of the stream (``_rows.Spans``), or pairs of them (``_pairs``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocablo.base.errors import ConfigError
from vocablo.contract import Batch, Term
from vocablo.data.order import shuffled
from vocablo.pretexts import _rows as rows


class StorePretext:
    """A pretext but for its rows, its batches and its loss: a file's own has ``names``, ``perplexity_of``, ``terms`` and ``check``.

    ``batch`` is the number of sequences of an optimizer step over all ranks, ``micro`` how many of them go through the
    model at once, ``context`` the longest sequence in tokens. Who inherits sets ``count``, the rows of an epoch, and
    ``tokens``, how many an epoch reads. Raises ConfigError for a number below 1.
    """

    count: int
    tokens: int

    def __init__(self, store: Any, settings: Any, *, seed: int, batch: int, micro: int | None, context: int) -> None:
        if min(batch, context, micro or 1) < 1:
            raise ConfigError(f"batch, micro and context are at least 1; got {batch}, {micro} and {context}.")
        self.store, self.settings, self.seed = store, settings, seed
        self.batch, self.micro, self.context = batch, micro or batch, context
        self._epoch: tuple[int, Any] | None = None

    def drawn(self, epoch: int) -> Any:
        """The rows of an epoch, as they lie in the text."""
        raise NotImplementedError

    def held_out(self, store: Any) -> Any:
        """The rows of a held-out store, the same each time and for every seed."""
        raise NotImplementedError

    def make(self, store: Any, found: Any, share: slice, seed: int, *stream: int | str) -> Batch:
        """The batch of some rows of all those that ``seed`` and ``stream`` make draws for."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every row is read once."""
        return rows.ceil(self.count, self.batch)

    def continues(self, step: int) -> bool:
        """Whether the state that the previous step ended with goes into this one: no state is carried."""
        return False

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """The part of optimizer step ``step`` (from 0) that ``rank`` works on: a pure function of the arguments.

        The rows of the step, and what is drawn for each, are the same for every ``micro`` and ``world``; ranks get equal
        shares of them, up to one row, and a rank may get none at the end of an epoch.
        """
        found = self.of_step(*divmod(step, self.steps_per_epoch))
        shares = rows.shares(len(found), self.micro, rank, world)
        return [self.make(self.store, found, share, self.seed, "mask", step) for share in shares]

    def of_step(self, epoch: int, index: int) -> Any:
        """The rows of an optimizer step, in the order of their epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self.ordered(self.drawn(epoch), epoch))
        return self._epoch[1].take(slice(index * self.batch, (index + 1) * self.batch))

    def ordered(self, found: Any, epoch: int) -> Any:
        """The ``count`` rows of an epoch in a new order; where more or fewer were drawn, some are left out or come twice."""
        return found.take(np.resize(shuffled(len(found), self.seed, epoch), self.count))

    def validation(self, store: Any, rank: int = 0, world: int = 1, batches: int | None = None) -> Iterator[Batch]:
        """A held-out store read in the same way, unshuffled, with draws that are the same each time and for every seed.

        ``batches`` limits the work to so many batches of each rank, evenly spread over the store.
        """
        found = self.held_out(store)
        for share in rows.spread(len(found), self.micro, rank, world, batches):
            yield self.make(store, found, share, 0, "validation")

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


def untold(log_probs: Tensor, count: int) -> Term:
    """The summed negative log-probability of ``count`` targets, in nats and in float32 or better."""
    return Term(-log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).sum(), count)
