"""The bidirectional language model (Peters et al. 2018): predict each token from those before it, and again from those after it.

T cuts sequences from a store and puts the boundary before and behind each; L is the sum, over all tokens of a sequence,

    - sum_t log p(w_t | w_1 .. w_(t-1))  - sum_t log p(w_t | w_(t+1) .. w_T)

The forward sum tells the words and the boundary behind them, the backward sum the words and the boundary before them: both
have as many targets. ``order`` says how sequences are cut:

* ``sentences``: each sentence is one, cut where it is longer than ``context``;
* ``documents``: each document;
* ``shuffled``: blocks of the stream, from a new offset each epoch.

Where something is cut, the pieces have boundaries as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch, Target, Term, TwoWayModel
from vocablo.data.order import shuffled
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._rows import Ints, MarkedStream, Sentences
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

READS = ("two_way",)
PRETEXTS = {"bidirectional": "predict each token from those before it, and from those after it"}


class Config(Settings):
    """How sequences are cut: see the module's docstring."""

    name: Literal["bidirectional"] = "bidirectional"
    order: Literal["sentences", "documents", "shuffled"] = "sentences"


class Pretext:
    """Batches of one store for one run, and their loss.

    ``batch`` is the number of sequences of an optimizer step over all ranks, ``micro`` how many of them go through the
    model at once, ``context`` the longest sequence in tokens, boundaries included. Raises ConfigError for a tokenizer
    without a boundary, DataError when there is too little text.
    """

    names: tuple[str, ...] = ("forward", "backward")
    perplexity_of: str | None = "forward"

    def __init__(
        self,
        store: MarkedStream,
        settings: Config,
        *,
        tokenizer: Tokenizer,
        seed: int,
        batch: int,
        micro: int | None,
        context: int,
    ) -> None:
        if min(batch, context, micro or 1) < 1:
            raise ConfigError(f"batch, micro and context are at least 1; got {batch}, {micro} and {context}.")
        self.store, self.settings, self.seed, self.tokenizer = store, settings, seed, tokenizer
        self.batch, self.micro, self.context = batch, micro or batch, context
        self.frame = Template.two_way(tokenizer).alone
        self.body = context - self.frame.special_count
        if self.body < 1:
            raise ConfigError(f"A context of {context} has no room beside {self.frame.special_count} boundaries.")
        self._fixed = None if settings.order == "shuffled" else self._cut(store, 0)
        sizes = self._cut(store, 0)[1]
        if not len(sizes):
            raise DataError("The store has no tokens: give some text.")
        if settings.order == "shuffled" and len(store.tokens) < self.body:
            raise DataError(
                f"The text has {len(store.tokens)} tokens, fewer than one block of {self.body}: give more text or a "
                "smaller context."
            )
        self._rows = len(sizes)
        self.tokens = int(sizes.sum()) + self._rows * self.frame.special_count
        self._epoch: tuple[int, Ints, Ints] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every token is told once from each side."""
        return rows.ceil(self._rows, self.batch)

    def continues(self, step: int) -> bool:
        """No state is carried from step to step."""
        return False

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """The part of optimizer step ``step`` (from 0) that ``rank`` works on: a pure function of the arguments.

        The sequences of the step are the same for every ``micro`` and ``world``.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            offset = int(generator(self.seed, "offset", epoch).integers(self.body))
            fixed = self._fixed or self._cut(self.store, offset)
            order = shuffled(len(fixed[0]), self.seed, epoch)
            self._epoch = (epoch, fixed[0][order], fixed[1][order])
        here = slice(index * self.batch, (index + 1) * self.batch)
        starts, lengths = self._epoch[1][here], self._epoch[2][here]
        return [
            self._batch(self.store, starts[share], lengths[share])
            for share in rows.shares(len(starts), self.micro, rank, world)
        ]

    def terms(self, model: TwoWayModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probabilities of both directions, in nats; there is no state."""
        states = model(batch.tokens).states  # type: ignore[operator]
        found = {}
        for name in self.names:
            target = batch.targets[name]
            log_probs = model.target_log_probs(states, target.at, target.value, name)
            total = -log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).sum()
            found[name] = Term(total, target.count)
        return found, None

    def validation(
        self, store: MarkedStream, rank: int = 0, world: int = 1, batches: int | None = None
    ) -> Iterator[Batch]:
        """Every token of a held-out store as a target once from each side, cut in the same way, unshuffled.

        ``batches`` limits the work to so many batches of each rank, evenly spread over the store.
        """
        starts, lengths = self._cut(store, 0)
        for share in rows.spread(len(starts), self.micro, rank, world, batches):
            yield self._batch(store, starts[share], lengths[share])

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """Tell a model that reads letters how the tokenizer's words are spelled. The loss has no modules."""
        if hasattr(model, "spell"):
            model.spell(self.tokenizer)

    def modules(self) -> nn.ModuleDict | None:
        """Modules of the loss itself: none."""
        return None

    def plateau(self) -> tuple[str, float] | None:
        """Where the loss may stay without anything learnt of context: not known to happen here."""
        return None

    def check(self, model: TwoWayModel) -> None:
        """Raise before training starts what would go wrong in it."""
        if model.reads not in READS:
            raise ConfigError(
                f"The bidirectional pretext needs a family that reads 'two_way' (elmo); this one reads {model.reads!r}."
            )
        if model.context is not None and self.context > model.context:
            raise ConfigError(f"context is {self.context}, and the model reads at most {model.context} tokens.")
        if self.tokenizer.size > model.vocab:
            raise DataError(
                f"The tokenizer has {self.tokenizer.size} tokens and the model a vocabulary of {model.vocab}: they don't "
                "belong together."
            )
        if getattr(model, "head", True) is None:
            raise ConfigError("The model has no output layer over words, so it can't be trained to tell them.")
        if model.words < model.vocab and getattr(model.config, "unknown", None) is None:  # type: ignore[attr-defined]
            raise ConfigError(
                f"The model tells {model.words} of {model.vocab} words, and the tokenizer has no unknown token for the others: "
                "raise model.head.words, or take a tokenizer of words."
            )

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sequence of batches; a resumed run must have the same."""
        return {
            "pretext": "bidirectional",
            **self.settings.model_dump(),
            "context": self.context,
            "batch": self.batch,
            "micro": self.micro,
            "seed": self.seed,
            "tokens": self.tokens,
            "tokens_crc32": rows.crc32(self.store.tokens),
        }

    def _cut(self, store: MarkedStream, offset: int) -> tuple[Ints, Ints]:
        """Starts and lengths of all sequences, without their boundaries."""
        if self.settings.order == "shuffled":
            return rows.windows(len(store.tokens), self.body, offset)
        if self.settings.order == "documents":
            return rows.pieces(store.documents[:-1], store.documents[1:] - 1, self.body)
        sentences = Sentences.of(store)
        return rows.pieces(sentences.starts, sentences.stops, self.body)

    def _batch(self, store: MarkedStream, starts: Ints, lengths: Ints) -> Batch:
        flat = rows.framed(store, self.frame, (starts, lengths))
        ids = flat.ids
        inner = np.ones(len(ids), dtype=bool)
        inner[flat.starts] = False
        behind = np.flatnonzero(inner)  # every token but a sequence's first
        before = behind - 1  # every token but its last
        pairs = {"forward": (before, behind), "backward": (behind, before)}
        targets = {
            name: Target(torch.from_numpy(at), torch.from_numpy(ids[value]), len(at))
            for name, (at, value) in pairs.items()
        }
        return Batch(flat.tokens(), targets)
