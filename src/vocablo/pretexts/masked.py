"""Masked language modelling (Devlin et al. 2019): tell hidden tokens from all that stands around them.

T cuts sequences from a store, puts the tokenizer's special tokens around them, and hides tokens (``_masking``); L is the
sum of ``-log p(w_t | the masked sequence)`` over the hidden tokens, and logits are computed nowhere else. Sequences keep
their own length: nothing is padded; ``_blocks`` says how they are cut.

Masks are drawn anew in each step, and depend on the seed, the step and the place in the step alone.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from vocablo.contract import Batch, BothModel, Target, Term
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._blocks import BlockPretext
from vocablo.pretexts._both import check
from vocablo.pretexts._masking import Masking, MaskSettings
from vocablo.pretexts._pretext import untold
from vocablo.pretexts._rows import MarkedStream, Spans
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

READS = ("both",)
PRETEXTS = {"masked": "tell hidden tokens from all that stands around them"}


class Config(MaskSettings):
    """How sequences are cut (``_blocks``) and how they are masked."""

    name: Literal["masked"] = "masked"
    order: Literal["shuffled", "documents", "sentences"] = "shuffled"


class Pretext(BlockPretext):
    """Batches of one store for one run, and their loss; see ``_blocks.BlockPretext``.

    Raises ConfigError for a tokenizer without the special tokens, DataError when there is too little text.
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
        self.frame = Template.of(tokenizer).alone
        self.masking = Masking(settings, tokenizer)
        around = self.frame.special_count
        super().__init__(store, settings, around=around, seed=seed, batch=batch, micro=micro, context=context)

    def terms(self, model: BothModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probability of the hidden tokens, in nats; there is no state."""
        hidden = model(batch.tokens)  # type: ignore[operator]
        target = batch.targets["masked"]
        log_probs = model.target_log_probs(hidden.states, target.at, target.value)
        return {"masked": untold(log_probs, target.count)}, None

    def check(self, model: BothModel) -> None:
        """Raise before training starts what would go wrong in it."""
        vocab = len(self.masking.special)
        check(model, vocab=vocab, context=self.context, frame=self.frame, words=True, pooled=False)

    def plateau(self) -> tuple[str, float]:
        """The term whose loss may stay where nothing of context is learnt, and where that is, in nats."""
        return "masked", self.masking.blind_loss(self.store.tokens)

    def make(self, store: MarkedStream, found: Spans, share: slice, seed: int, *stream: int | str) -> Batch:
        """Rows with their special tokens, and what of them is hidden."""
        one = found.take(share)
        flat = rows.framed(store, self.frame, (one.starts, one.lengths))
        first = int(found.lengths[: share.start].sum()) + share.start * self.frame.special_count
        masked = self.masking(flat, first, seed, *stream)
        target = Target(torch.from_numpy(masked.at), torch.from_numpy(masked.value), len(masked.at))
        return Batch(flat.tokens(masked.ids), {"masked": target})
