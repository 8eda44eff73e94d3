"""The bidirectional language model (Peters et al. 2018): predict each token from those before it, and again from those after it.

T cuts sequences from a store and puts the boundary before and behind each; L is the sum, over all tokens of a sequence,

    - sum_t log p(w_t | w_1 .. w_(t-1))  - sum_t log p(w_t | w_(t+1) .. w_T)

The forward sum tells the words and the boundary behind them, the backward sum the words and the boundary before them: both
have as many targets. ``_blocks`` says how sequences are cut; where a document or a sentence is, its pieces have boundaries too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Batch, Target, Term, TwoWayModel
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._blocks import BlockPretext
from vocablo.pretexts._pretext import untold
from vocablo.pretexts._rows import MarkedStream, Spans
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

READS = ("two_way",)
PRETEXTS = {"bidirectional": "predict each token from those before it, and from those after it"}


class Config(Settings):
    """How sequences are cut (``_blocks``)."""

    name: Literal["bidirectional"] = "bidirectional"
    order: Literal["sentences", "documents", "shuffled"] = "sentences"


class Pretext(BlockPretext):
    """Batches of one store for one run, and their loss; see ``_blocks.BlockPretext``.

    Raises ConfigError for a tokenizer without a boundary, DataError when there is too little text.
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
        self.tokenizer, self.frame = tokenizer, Template.two_way(tokenizer).alone
        around = self.frame.special_count
        super().__init__(store, settings, around=around, seed=seed, batch=batch, micro=micro, context=context)

    def terms(self, model: TwoWayModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probabilities of both directions, in nats; there is no state."""
        states = model(batch.tokens).states  # type: ignore[operator]
        found = {}
        for name in self.names:
            target = batch.targets[name]
            log_probs = model.target_log_probs(states, target.at, target.value, name)
            found[name] = untold(log_probs, target.count)
        return found, None

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """Tell a model that reads letters how the tokenizer's words are spelled. The loss has no modules."""
        if hasattr(model, "spell"):
            model.spell(self.tokenizer)

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

    def make(self, store: MarkedStream, found: Spans, share: slice, seed: int, *stream: int | str) -> Batch:
        """Rows between boundaries; nothing is drawn."""
        one = found.take(share)
        flat = rows.framed(store, self.frame, (one.starts, one.lengths))
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
