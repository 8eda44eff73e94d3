"""What a language model says about a text, in the units that the field uses.

    perplexity        exp(-log p / tokens)                    per token, so it depends on the tokenizer
    word perplexity   exp(-log p / words)                     per white-space word, comparable between tokenizers
    bits per byte     -log2 p / bytes                         comparable between tokenizers and languages

Log-probabilities are natural logarithms (nats) of whole texts by the chain rule, ``sum log p(w_t | w_<t)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def perplexity_of(log_prob: float, count: int) -> float:
    """exp(-log_prob / count); not a number when nothing was counted, infinite when it is over the range of floats."""
    if count == 0:
        return math.nan
    surprise = -log_prob / count
    return math.exp(surprise) if surprise < 709 else math.inf


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-probability of one text or of many, with what it is divided by. Likelihoods of different texts add up.

    ``tokens`` counts the tokens that were scored, and ``words`` the white-space words; each boundary (``<end>``) that was
    scored is one of both, so a word-level model of pre-tokenized text has one perplexity (82,430 tokens and words for
    Penn Treebank's test set). ``bytes`` are those of the text alone in UTF-8. ``unknown`` counts tokens that stand for text
    that the vocabulary lacks. ``exact``: the tokens spell the text out, character by character.
    ``policy`` states what was done with the first token of each text (``boundary``: scored as what follows ``<end>``; ``skipped``:
    only read), and windows or a carried state where there were.
    """

    log_prob: float = 0.0
    tokens: int = 0
    words: int = 0
    bytes: int = 0
    unknown: int = 0
    exact: bool = True
    policy: str = ""

    @property
    def perplexity(self) -> float:
        """Per token."""
        return perplexity_of(self.log_prob, self.tokens)

    @property
    def word_perplexity(self) -> float:
        """Per word."""
        return perplexity_of(self.log_prob, self.words)

    @property
    def bits_per_byte(self) -> float | None:
        """Only where the probability is one of the text itself: None when tokens were unknown or the text isn't ``exact``.

        An unknown word costs what *some* rare word costs, and a tokenizer that lowercases gives the probability of all the
        spellings together; divided by the bytes of one text, both would look better than they are.
        """
        if self.unknown or not self.exact or not self.bytes:
            return None
        return -self.log_prob / math.log(2) / self.bytes

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(
            self.log_prob + other.log_prob,
            self.tokens + other.tokens,
            self.words + other.words,
            self.bytes + other.bytes,
            self.unknown + other.unknown,
            self.exact and other.exact,
            self.policy if self.policy == other.policy else "; ".join(filter(None, (self.policy, other.policy))),
        )
