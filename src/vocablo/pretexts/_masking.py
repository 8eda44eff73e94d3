"""Masking (Devlin et al. 2019, section 3.1): some tokens are hidden, and each of them is to be told from the rest.

Of the tokens that aren't special, each is chosen with probability ``rate``, alone or with its whole word. In the place of
a chosen token the model reads [MASK] with probability ``mask``, any token but a special one with probability ``random``,
and else the token itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError
from vocablo.base.random import uniforms
from vocablo.pretexts._rows import Flat, Ints
from vocablo.text.tokenizer import Tokenizer


class MaskSettings(Settings):
    """How many tokens are chosen, and what is read in their place; the rest of ``mask`` + ``random`` stays as it is."""

    rate: float = Field(default=0.15, gt=0, le=1)
    mask: float = Field(default=0.8, ge=0, le=1)
    random: float = Field(default=0.1, ge=0, le=1)
    whole_words: bool = False

    @model_validator(mode="after")
    def _shares(self) -> MaskSettings:
        if self.mask + self.random > 1 + 1e-9:
            raise ValueError(
                f"mask ({self.mask:g}) and random ({self.random:g}) are shares of the chosen: at most 1 together"
            )
        return self

    @property
    def same(self) -> float:
        """The share of the chosen tokens that stay as they are."""
        return max(0.0, 1 - self.mask - self.random)


@dataclass(frozen=True, slots=True)
class Masked:
    """What the model reads, ``ids`` [n], and what it is to tell: the tokens ``value`` [M] at the places ``at`` [M]."""

    ids: Ints
    at: Ints
    value: Ints


class Masking:
    """Masks batches with the vocabulary of one tokenizer. Raises ConfigError for one without a mask token."""

    def __init__(self, settings: MaskSettings, tokenizer: Tokenizer) -> None:
        if tokenizer.mask_id is None and settings.mask:
            raise ConfigError(
                "The tokenizer has no mask token: train one of kind 'wordpiece', or name it as mask_token in "
                "tokenizer_config.json."
            )
        self.settings = settings
        self.mask_id = tokenizer.mask_id
        self.special = np.zeros(tokenizer.size, dtype=bool)
        self.special[list(tokenizer.special_ids)] = True
        self.plain = np.flatnonzero(~self.special)  # what a random token is drawn from
        self.joins = tokenizer.words.joins if settings.whole_words else None
        if not len(self.plain):
            raise ConfigError("The tokenizer has nothing but special tokens.")

    def __call__(self, flat: Flat, first: int, seed: int, *stream: int | str) -> Masked:
        """Mask a batch whose first token is number ``first`` of all those that ``seed`` and ``stream`` make numbers for.

        So a row is masked in the same way in whichever batch it comes.
        """
        ids, settings = flat.ids, self.settings
        draw = uniforms(first, len(ids), seed, *stream, "choose")
        if self.joins is not None:
            opens = ~self.joins[ids] | self.special[ids]
            opens[1:] |= self.special[ids[:-1]]
            opens[flat.starts] = True
            draw = draw[np.maximum.accumulate(np.where(opens, np.arange(len(ids)), 0))]  # a word has its first token's
        at = np.flatnonzero((draw < settings.rate) & ~self.special[ids])
        become = uniforms(first, len(ids), seed, *stream, "become")[at]
        shown, value = ids.copy(), ids[at]
        if self.mask_id is not None:
            shown[at[become < settings.mask]] = self.mask_id
        other = (become >= settings.mask) & (become < settings.mask + settings.random)
        share = (become[other] - settings.mask) / settings.random if settings.random else become[:0]
        shown[at[other]] = self.plain[np.minimum((share * len(self.plain)).astype(np.int64), len(self.plain) - 1)]
        return Masked(shown, at, value)

    def blind_loss(self, tokens: NDArray[Any]) -> float:
        """Nats a target of the best predictor that looks only at what stands in the target's own place.

        Where [MASK] stands it knows how frequent words are, their entropy; elsewhere it may guess that the token is the
        right one. A loss that stays here has learnt nothing of context: the plateau that is so often reported.
        """
        counts = np.zeros(len(self.special), dtype=np.float64)
        for begin in range(0, len(tokens), 1 << 24):
            counts += np.bincount(tokens[begin : begin + (1 << 24)], minlength=len(counts))
        p = counts[self.plain][counts[self.plain] > 0]
        p = p / p.sum() if len(p) else np.ones(1)
        entropy = -float(p @ np.log(p))
        same, random, size = self.settings.same, self.settings.random, len(self.plain)
        if same + random < 1e-9:
            return entropy
        # Joint probability of seeing x and having to tell y: same p(y) [x = y] + random p(y) / V.
        equal, apart = _xlogx(same * p + random * p / size), (size - 1) * _xlogx(random * p / size)
        seen = _xlogx(same * p + random / size).sum() + (size - len(p)) * _xlogx(np.array(random / size))
        return self.settings.mask * entropy + float(seen - (equal + apart).sum())


def _xlogx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.log(np.maximum(x, math.ulp(0.0)))
