"""How texts go into a model that reads both ways: special tokens around them, flat batches of bounded size, nothing cut.

Sequences are read in the order of their lengths, so that batches are mostly of one length (attention is one dense product
there), and results go back to the order that they were asked in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import BothModel, Fences, Tokens
from vocablo.inference.reading import Ints, check_ids, device_of
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer


class Framing:
    """Puts the tokenizer's special tokens around texts, and refuses what the model can't read.

    ``before``: how many special tokens stand before a text. ``limit``: the longest sequence that is read, special tokens
    included: the model's context, or a smaller one. None: no limit.
    """

    def __init__(self, model: BothModel, tokenizer: Tokenizer, limit: int | None = None) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.template = (Template.two_way if model.reads == "two_way" else Template.of)(tokenizer)
        self.before = len(self.template.alone.specials[0])
        limits = [one for one in (model.context, limit) if one is not None]
        self.limit = min(limits, default=None)

    @property
    def room(self) -> int | None:
        """How many tokens of its own a text may have."""
        return None if self.limit is None else self.limit - self.template.special_count()

    def frame(self, ids: Sequence[int]) -> Ints:
        """One text with its special tokens."""
        check_ids(self.model, ids)
        return np.array(self.template.single(ids), dtype=np.int64)

    def fits(self, ids: Sequence[int]) -> bool:
        return self.room is None or len(ids) <= self.room

    def require(self, ids: Sequence[int], text: str, way_out: str = "shorten it, or split it") -> None:
        """Raise DataError, saying what to do, for a text over the limit."""
        if not self.fits(ids):
            shown = text if len(text) <= 40 else text[:40] + "..."
            raise DataError(
                f"The text {shown!r} has {len(ids)} tokens and {self.room} fit, of the {self.limit} that are read with "
                f"{self.template.special_count()} special tokens: {way_out}."
            )

    def pair(self, first: str, second: str) -> Tokens:
        """Two texts as one sequence with segments. Raises ConfigError when the model or the tokenizer can't tell two apart."""
        a, b = (self.tokenizer.encode(text).ids for text in (first, second))
        ids, segments = self.template.pair(a, b)
        check_ids(self.model, ids)
        if self.limit is not None and len(ids) > self.limit:
            raise DataError(f"The two texts have {len(ids)} tokens together and {self.limit} are read: shorten them.")
        tokens = flat_frames([np.array(ids, dtype=np.int64)], device_of(self.model))
        return Tokens(tokens.ids, tokens.fences, tokens.positions, torch.tensor(segments, device=tokens.ids.device))

    def one(self, text: str) -> Tokens:
        """One text as a batch of its own."""
        ids = self.tokenizer.encode(text).ids
        self.require(ids, text)
        return flat_frames([self.frame(ids)], device_of(self.model))


def flat_frames(sequences: Sequence[Ints], device: torch.device) -> Tokens:
    """Sequences as one flat batch; positions count from 0 in each."""
    lengths = [len(sequence) for sequence in sequences]
    positions = np.concatenate([np.arange(length) for length in lengths])
    ids = torch.from_numpy(np.concatenate(sequences)).to(device)
    return Tokens(ids, Fences.of(lengths, device), torch.from_numpy(positions).to(device))


def states_of(model: Any, tokens: Tokens, at: Tensor, counts: Sequence[int]) -> Tensor:
    """The states [M, D] at some places, ``counts`` of them in each sequence; families that can compute only those."""
    if hasattr(model, "states_at"):
        return model.states_at(tokens, at, counts)
    return model.forward(tokens).states.index_select(0, at)


def mask_of(tokenizer: Tokenizer) -> int:
    """The id of the mask token. Raises ConfigError for a tokenizer that has none."""
    if tokenizer.mask_id is None:
        raise ConfigError(
            "The tokenizer has no mask token, so nothing can be hidden from the model: "
            "name it in tokenizer_config.json (mask_token)."
        )
    return tokenizer.mask_id
