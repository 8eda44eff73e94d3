"""What a log-probability says about a model, in the field's units."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-probability of a text (nats), and what it is divided by.

    ``tokens`` are those that were predicted (each document's ``<end>`` too, where it was scored), ``words`` those between
    white space, ``bytes`` those of the text in UTF-8, ``unknown`` the tokens that stand for text outside the vocabulary.
    ``open_vocabulary`` says whether the tokens spell the text itself; only then can its bytes be compared across models.
    ``policy`` states how it was scored.
    """

    log_prob: float
    tokens: int
    words: int
    bytes: int
    unknown: int
    open_vocabulary: bool
    policy: str = ""

    @property
    def perplexity(self) -> float:
        """exp of the mean surprise of a token."""
        return _exp(-self.log_prob / self.tokens) if self.tokens else math.nan

    @property
    def word_perplexity(self) -> float | None:
        """exp of the mean surprise of a word: comparable across tokenizers with the same treatment of unknown words."""
        return _exp(-self.log_prob / self.words) if self.words else None

    @property
    def bits_per_byte(self) -> float | None:
        """Bits a byte of the text costs; None for a closed vocabulary, whose unknown words cost less than their spelling."""
        if not self.open_vocabulary or self.unknown or not self.bytes:
            return None
        return -self.log_prob / (self.bytes * math.log(2))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
