"""Masked language modelling (Devlin et al. 2019): tell hidden tokens from all that stands around them.

T cuts sequences from a store, puts the tokenizer's special tokens around them, and hides tokens (``_masking``); L is the
sum of ``-log p(w_t | the masked sequence)`` over the hidden tokens, and logits are computed nowhere else. Sequences keep
their own length: nothing is padded. ``order`` says how they are cut:

* ``shuffled``: blocks of ``context`` tokens of the stream, special tokens included, the last one shorter, from a new
  offset each epoch. A block may hold several documents, with the boundary between them (RoBERTa's FULL-SENTENCES);
* ``documents``: each document is a sequence, cut where it is longer than ``context``;
* ``sentences``: each sentence is one.

Masks are drawn anew in each step, and depend on the seed, the step and the place in the step alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch, BothModel, Target, Term
from vocablo.data.order import shuffled
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._both import check
from vocablo.pretexts._masking import Masking, MaskSettings
from vocablo.pretexts._rows import Ints, MarkedStream, Sentences
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

READS = ("both",)
PRETEXTS = {"masked": "tell hidden tokens from all that stands around them"}


class Config(MaskSettings):
    """How sequences are cut (see the module's docstring) and how they are masked."""

    name: Literal["masked"] = "masked"
    order: Literal["shuffled", "documents", "sentences"] = "shuffled"


class Pretext:
    """Batches of one store for one run, and their loss.

    ``batch`` is the number of sequences of an optimizer step over all ranks, ``micro`` how many of them go through the
    model at once, ``context`` the longest sequence in tokens, special ones included. Raises ConfigError for a tokenizer
    without the special tokens, DataError when there is too little text.
    """

    names: tuple[str, ...] = ("masked",)
    perplexity_of: str | None = "masked"

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
        self.store, self.settings, self.seed = store, settings, seed
        self.batch, self.micro, self.context = batch, micro or batch, context
        self.frame = Template.of(tokenizer).alone
        self.masking = Masking(settings, tokenizer)
        self.body = context - self.frame.special_count
        if self.body < 1:
            raise ConfigError(f"A context of {context} has no room beside {self.frame.special_count} special tokens.")
        self._fixed = None if settings.order == "shuffled" else self._cut(store, 0)
        count, length = len(store.tokens), self.body
        if not count or (self._fixed is not None and not len(self._fixed[0])):
            raise DataError("The store has no tokens: give some text.")
        if settings.order == "shuffled" and count < length:
            raise DataError(
                f"The text has {count} tokens, fewer than one block of {length}: give more text or a smaller context."
            )
        sizes = self._cut(store, 0)[1]
        self._rows = len(sizes)
        self.tokens = int(sizes.sum()) + self._rows * self.frame.special_count
        self._epoch: tuple[int, Ints, Ints] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every token is read once."""
        return rows.ceil(self._rows, self.batch)

    def continues(self, step: int) -> bool:
        """No state is carried from step to step."""
        return False

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """The part of optimizer step ``step`` (from 0) that ``rank`` works on: a pure function of the arguments.

        The sequences and masks of the step are the same for every ``micro`` and ``world``.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            offset = int(generator(self.seed, "offset", epoch).integers(self.body))
            fixed = self._fixed or self._cut(self.store, offset)
            order = shuffled(len(fixed[0]), self.seed, epoch)
            self._epoch = (epoch, fixed[0][order], fixed[1][order])
        here = slice(index * self.batch, (index + 1) * self.batch)
        starts, lengths = self._epoch[1][here], self._epoch[2][here]
        shares = rows.shares(len(starts), self.micro, rank, world)
        return [self._batch(self.store, starts, lengths, share, self.seed, "mask", step) for share in shares]

    def terms(self, model: BothModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probability of the hidden tokens, in nats; there is no state."""
        hidden = model(batch.tokens)  # type: ignore[operator]
        target = batch.targets["masked"]
        log_probs = model.target_log_probs(hidden.states, target.at, target.value)
        total = -log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).sum()
        return {"masked": Term(total, target.count)}, None

    def validation(
        self, store: MarkedStream, rank: int = 0, world: int = 1, batches: int | None = None
    ) -> Iterator[Batch]:
        """A held-out store cut in the same way, unshuffled, with masks that are the same each time and for every seed.

        ``batches`` limits the work to so many batches of each rank, evenly spread over the store.
        """
        starts, lengths = self._cut(store, 0)
        for share in rows.spread(len(starts), self.micro, rank, world, batches):
            yield self._batch(store, starts, lengths, share, 0, "validation")

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """Make the modules of the loss for a model: none."""

    def modules(self) -> nn.ModuleDict | None:
        """Modules of the loss itself: none."""
        return None

    def check(self, model: BothModel) -> None:
        """Raise before training starts what would go wrong in it."""
        vocab = len(self.masking.special)
        check(model, vocab=vocab, context=self.context, frame=self.frame, words=True, pooled=False)

    def plateau(self) -> tuple[str, float]:
        """The term whose loss may stay where nothing of context is learnt, and where that is, in nats."""
        return "masked", self.masking.blind_loss(self.store.tokens)

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sequence of batches; a resumed run must have the same."""
        return {
            "pretext": "masked",
            **self.settings.model_dump(),
            "context": self.context,
            "batch": self.batch,
            "micro": self.micro,
            "seed": self.seed,
            "tokens": self.tokens,
            "tokens_crc32": rows.crc32(self.store.tokens),
        }

    def _cut(self, store: MarkedStream, offset: int) -> tuple[Ints, Ints]:
        """Starts and lengths of all sequences, without their special tokens."""
        if self.settings.order == "shuffled":
            return rows.windows(len(store.tokens), self.body, offset)
        if self.settings.order == "documents":
            return rows.pieces(store.documents[:-1], store.documents[1:] - 1, self.body)
        sentences = Sentences.of(store)
        return rows.pieces(sentences.starts, sentences.stops, self.body)

    def _batch(
        self, store: MarkedStream, starts: Ints, lengths: Ints, share: slice, seed: int, *stream: int | str
    ) -> Batch:
        flat = rows.framed(store, self.frame, (starts[share], lengths[share]))
        first = int(lengths[: share.start].sum()) + share.start * self.frame.special_count
        masked = self.masking(flat, first, seed, *stream)
        target = Target(torch.from_numpy(masked.at), torch.from_numpy(masked.value), len(masked.at))
        return Batch(flat.tokens(masked.ids), {"masked": target})
