"""Causal language modelling: predict each token from those before it.

T cuts (input, target) pairs from the token stream of a store, where target ``t`` is the token that follows input ``t``;
L is the sum of ``-log p(w_t | w_<t)`` (Bengio et al. 2003, eq. 1; Radford et al. 2018, eq. 1).

The stream is read as a ring: behind its last token, the boundary that closes the last document, comes the first one, and
the boundary is what stands before that. So every token of an epoch, the first and the last included, is a target exactly
once: N tokens, N targets. (The first token of a store that was cut off within a document is read as a document's first.)
Three orders cut the ring differently:

* ``shuffled``: windows of ``context`` tokens, the last one shorter, in a new order and from a new offset each epoch;
* ``carried``: B parallel contiguous streams whose state goes on from step to step and is zero at the start of each
  epoch, with back-propagation cut every ``context`` tokens (Zaremba et al. 2014). Streams differ by one token at most,
  so the last step of an epoch has 1 to ``context + 1`` tokens a stream, and nothing is dropped;
* ``documents``: each document is a sequence of its own that starts with the boundary as its first input, in a new order
  each epoch. A document longer than ``context`` is cut into windows; each window's first input is the token before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch, Fences, LeftModel, Target, Term, Tokens
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._pretext import StorePretext, untold
from vocablo.pretexts._rows import Spans, Stream

READS = ("left",)
PRETEXTS = {"causal": "predict each token from those before it"}


class Config(Settings):
    """How the stream is cut: see the module's docstring."""

    name: Literal["causal"] = "causal"
    order: Literal["shuffled", "carried", "documents"] = "shuffled"


class Pretext(StorePretext):
    """Batches of one store for one run, and their loss; see ``_pretext.StorePretext``.

    Every pretext is given the ``tokenizer``; this one needs nothing of it. Raises DataError when the text is shorter than
    ``context``.
    """

    names: tuple[str, ...] = ("causal",)
    perplexity_of: str | None = "causal"

    def __init__(
        self,
        store: Stream,
        settings: Config,
        *,
        seed: int,
        batch: int,
        micro: int | None,
        context: int,
        tokenizer: Any = None,
    ) -> None:
        super().__init__(store, settings, seed=seed, batch=batch, micro=micro, context=context)
        self.tokens = len(store.tokens)
        if not self.tokens:
            raise DataError("The store has no tokens: give some text.")
        if settings.order == "shuffled" and self.tokens < context:
            raise DataError(
                f"The text has {self.tokens} tokens, fewer than one window of {context}: "
                "give more text or a smaller context."
            )
        if settings.order == "carried" and self.tokens < batch * context:
            raise DataError(
                f"{batch} parallel streams of at least {context} tokens need {batch * context} tokens, and the text has "
                f"{self.tokens}: give more text, or a smaller batch or context."
            )
        self._fixed = self._cut(store, 0) if settings.order == "documents" else None
        self.count = rows.ceil(self.tokens, context) if self._fixed is None else len(self._fixed)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every token is a target once."""
        if self.settings.order == "carried":
            return rows.ceil(self.tokens // self.batch, self.context)
        return super().steps_per_epoch

    def continues(self, step: int) -> bool:
        """Whether the state that the previous step ended with goes into this one (steps count from 0)."""
        return self.settings.order == "carried" and step % self.steps_per_epoch != 0

    def of_step(self, epoch: int, index: int) -> Spans:
        """The sequences of an optimizer step; of ``carried``, what follows in each stream."""
        if self.settings.order == "carried":
            return _streams(self.tokens, self.batch, self.context, index)
        return super().of_step(epoch, index)

    def drawn(self, epoch: int) -> Spans:
        """The sequences of an epoch, as they lie in the text."""
        return self._fixed or self._cut(self.store, int(generator(self.seed, "offset", epoch).integers(self.context)))

    def held_out(self, store: Stream) -> Spans:
        """Those of another store."""
        return self._cut(store, 0)

    def terms(self, model: LeftModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probability in nats, and the state to carry on with (None unless ``carried``)."""
        hidden = model(batch.tokens, state=state)  # type: ignore[operator]
        target = batch.targets["causal"]
        log_probs = model.target_log_probs(hidden.states, target.at, target.value)
        return {"causal": untold(log_probs, target.count)}, hidden.state if self.settings.order == "carried" else None

    def validation(self, store: Stream, rank: int = 0, world: int = 1, batches: int | None = None) -> Iterator[Batch]:
        """Every token of a held-out store as a target exactly once, in the order ``settings`` names, unshuffled.

        ``batches`` limits the work to so many batches of each rank, evenly spread over the store (the first ones when
        state is carried); the loss is then an estimate. In ``carried`` order each of ``batch`` streams starts from the
        zero state and the state that ``terms`` returns goes into the next batch.
        """
        if self.settings.order != "carried":
            yield from super().validation(store, rank, world, batches)
            return
        streams = min(self.batch, len(store.tokens))
        mine = np.array_split(np.arange(streams), world)[rank]
        steps = rows.ceil(len(store.tokens) // streams, self.context) if len(mine) else 0
        for index in range(steps if batches is None else min(steps, batches)):
            yield _batch(store, _streams(len(store.tokens), streams, self.context, index).take(mine))

    def check(self, model: LeftModel) -> None:
        """Raise before training starts what would go wrong in it: wrong family, context too long, ids out of range."""
        if model.reads not in READS:
            raise ConfigError(f"Causal training needs a family that reads 'left'; this one reads {model.reads!r}.")
        if model.context is not None and self.context > model.context:
            raise ConfigError(f"context is {self.context}, and the model reads at most {model.context} tokens.")
        if self.settings.order == "carried" and not getattr(model, "carries", False):
            raise ConfigError(
                "order = 'carried' needs a family that carries its state from step to step (a recurrent one); "
                "use order = 'shuffled' or 'documents'."
            )
        if (largest := int(self.store.tokens.max())) >= model.vocab:
            raise DataError(
                f"The store has token id {largest} and the model a vocabulary of {model.vocab}: "
                "the store was made with another tokenizer."
            )

    def make(self, store: Stream, found: Spans, share: slice, seed: int, *stream: int | str) -> Batch:
        """Sequences and the tokens that follow; nothing is drawn."""
        return _batch(store, found.take(share))

    def _cut(self, store: Stream, offset: int) -> Spans:
        """All sequences of a store; ``offset`` moves the cuts of windows."""
        if self.settings.order == "documents":
            return rows.pieces(store.documents[:-1], store.documents[1:], self.context)
        return rows.windows(len(store.tokens), self.context, offset)


def _streams(total: int, streams: int, context: int, index: int) -> Spans:
    """What step ``index`` of an epoch reads of each of parallel streams."""
    size, longer = divmod(total, streams)
    stream = np.arange(streams, dtype=np.int64)
    starts = stream * size + np.minimum(stream, longer) + index * context
    if index < rows.ceil(size, context) - 1:
        return Spans(starts, np.full(streams, context, dtype=np.int64))
    return Spans(starts, size + (stream < longer) - index * context)


def _batch(store: Stream, found: Spans) -> Batch:
    starts, lengths = found.starts, found.lengths
    ends = np.cumsum(lengths)
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    at = (np.repeat(starts, lengths) + positions) % len(store.tokens)
    ids, value = (torch.from_numpy(store.tokens[index].astype(np.int64)) for index in (at - 1, at))
    ids[torch.from_numpy(at == 0)] = store.end_id
    flat = Tokens(ids, Fences.of(lengths.tolist()), torch.from_numpy(positions))
    return Batch(flat, {"causal": Target(torch.arange(len(at)), value, len(at))})
