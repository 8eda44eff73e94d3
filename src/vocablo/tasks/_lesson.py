"""A task as the training loop sees it: the same as a pretext, over labelled examples instead of a stream.

A step is a set of examples, a pure function of the seed and the step. Within it they are read in the order of their
lengths, so that the micro-batches, and the groups of equal length that attention works on, are as even as can be. Where a
step is a number of tokens, its examples are of like length to begin with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from vocablo.base.errors import DataError
from vocablo.contract import Batch, Term
from vocablo.data.order import batches_of, of_like_length, shuffled
from vocablo.tasks._reading import Heads
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Task


class Lesson:
    """Training examples of a task for one run. ``batch`` is examples of a step over all ranks, ``micro`` at once.

    With ``batch_tokens`` a step has about so many tokens instead, of the longer side where an example has two.
    """

    def __init__(
        self,
        task: Task,
        encoded: Encoded,
        heads: nn.ModuleDict,
        *,
        seed: int,
        batch: int,
        micro: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if not len(encoded):
            raise DataError("There are no examples to learn from.")
        self.task, self.encoded, self.seed = task, encoded, seed
        self.heads = heads
        self.batch, self.batch_tokens = batch, batch_tokens
        steps = 0 if batch_tokens is None else batches_of(encoded.sizes, batch_tokens)
        self.steps_per_epoch = steps or -(-len(encoded) // batch)  # in which every example is read once
        self.micro = micro or (-(-len(encoded) // steps) if steps else batch)
        self.names = task.names
        self.perplexity_of: str | None = getattr(task, "perplexity_of", None)
        self.tokens = encoded.total
        self._epoch: tuple[int, list[Ints]] | None = None
        self._whole = bool(steps) and micro is None

    def continues(self, step: int) -> bool:
        """No state is carried from step to step."""
        return False

    def examples(self, step: int) -> Ints:
        """The examples of step ``step`` (from 0), shortest first."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._drawn(epoch))
        here = self._epoch[1][index]
        return here[np.argsort(self.encoded.sizes[here], kind="stable")]

    def _drawn(self, epoch: int) -> list[Ints]:
        """The steps of an epoch."""
        if self.batch_tokens is not None:
            return of_like_length(self.encoded.sizes, self.batch_tokens, self.seed, epoch)
        order = shuffled(len(self.encoded), self.seed, epoch)
        return [order[begin : begin + self.batch] for begin in range(0, len(order), self.batch)]

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """The part of a step that ``rank`` works on; ranks take turns along the lengths, so each has as much to read."""
        mine = self.examples(step)[rank::world]
        parts = [mine] if self._whole and len(mine) else self._parts(self.encoded, mine)
        return [self.task.batch(self.encoded, part) for part in parts]

    def terms(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The task's terms; there is no state."""
        return self.task.terms(model, self.heads, batch), None

    def validation(self, store: Encoded, rank: int = 0, world: int = 1, batches: int | None = None) -> Iterator[Batch]:
        """Every held-out example once, shortest first; ``batches`` limits the work, evenly spread."""
        order = np.argsort(store.sizes, kind="stable")
        chunks = self._parts(store, order)[rank::world]
        if batches is not None and batches < len(chunks):
            chunks = [chunks[number * len(chunks) // batches] for number in range(batches)]
        for part in chunks:
            yield self.task.batch(store, part)

    def _parts(self, encoded: Encoded, which: Ints) -> list[Ints]:
        """Examples that are read at once: ``micro`` at most, and so many tokens as the reader bears."""
        most, sizes = self.task.reader.most, encoded.sizes[which].tolist()
        cuts, total = [0], 0
        for place, size in enumerate(sizes):
            full = place - cuts[-1] == self.micro or (most is not None and total + size > most)
            if full and place > cuts[-1]:
                cuts.append(place)
                total = 0
            total += size
        return [which[begin:end] for begin, end in itertools.pairwise([*cuts, len(sizes)]) if end > begin]

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """The heads are made already."""

    def modules(self) -> nn.ModuleDict:
        """The heads, which are trained with the model."""
        return self.heads

    def kept(self) -> tuple[Heads, dict[str, Any]]:
        """The heads as they are saved, and what is told of them in ``config.json``."""
        return self.task.saved(self.heads), self.task.told()

    def check(self, model: Any) -> None:
        """The task's reader has checked the model."""

    def plateau(self) -> tuple[str, float] | None:
        """Where a loss stays when nothing is learnt isn't told."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sequence of batches; a resumed run must have the same."""
        return {
            "task": self.task.told()["vocablo_task"]["name"],
            "read": self.task.reader.settings.model_dump(),
            "settings": self.task.settings.model_dump(),
            "labels": list(self.task.labels),
            "batch": self.batch,
            "micro": self.micro,
            **({} if self.batch_tokens is None else {"batch_tokens": self.batch_tokens}),
            "seed": self.seed,
            "tokens": self.tokens,
            "tokens_crc32": self.encoded.crc32,
        }
