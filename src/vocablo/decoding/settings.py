"""How a text is searched for or sampled: one record of settings for every family that generates.

Lengths count generated tokens, ``<end>`` and a forced ``prefix`` among them. With ``beam`` 1 the next token is chosen as
``decoding/sampling.py`` says; a wider beam searches (``decoding/beam.py``) and leaves nothing to chance.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vocablo.base.errors import ConfigError
from vocablo.decoding.sampling import SamplingSettings

Phrase = tuple[int, ...]  # token ids


class DecodeSettings(SamplingSettings):
    """Search, and what a text may look like.

    - ``beam``: hypotheses kept at each step; ``n_best`` of them are returned, best first.
    - ``length_penalty`` alpha divides a hypothesis's log-probability: by l^alpha with ``length_form`` "power" (0: not at
      all, 1: the mean), by ((5 + l) / 6)^alpha with "gnmt" (Wu et al. 2016, eq. 14).
    - ``coverage`` beta adds beta sum_j log min(sum_i p_ij, 1) to a finished hypothesis, p_ij being the attention of
      step i on source token j (the same equation); for models that attend to a source.
    - ``early_stopping``, once ``beam`` hypotheses are finished: "full" ends there; "estimate" ends when the best running one
      wouldn't beat the worst of them at its present length; "bound" when it couldn't at any length.
    - ``groups`` divide the beam for diverse beam search (Vijayakumar et al. 2016): one after another, each lowering the
      score of a token by ``diversity`` for every earlier group's hypothesis that takes it at this step. The penalty
      decides what is kept and is no part of a hypothesis's score.
    - ``min_tokens``: no ``<end>`` before so many other tokens. ``no_repeat`` n: no n-gram of tokens twice (0: allowed).
    - ``prefix``: tokens that the text begins with; they count in lengths and add nothing to the score.
    - ``exclude``: token sequences that may not occur. ``include``: of each group of token sequences, at least one must.
    - ``force_end``: the last token that ``max_tokens`` allows is ``<end>``, which then adds nothing to the score (BART).
    """

    max_tokens: int = Field(default=100, ge=1)
    min_tokens: int = Field(default=0, ge=0)
    beam: int = Field(default=1, ge=1)
    n_best: int = Field(default=1, ge=1)
    length_penalty: float = 1.0
    length_form: Literal["power", "gnmt"] = "power"
    coverage: float = Field(default=0.0, ge=0)
    early_stopping: Literal["full", "estimate", "bound"] = "estimate"
    groups: int = Field(default=1, ge=1)
    diversity: float = Field(default=0.5, ge=0)
    no_repeat: int = Field(default=0, ge=0)
    prefix: Phrase = ()
    exclude: tuple[Phrase, ...] = ()
    include: tuple[tuple[Phrase, ...], ...] = ()
    force_end: bool = False

    @model_validator(mode="after")
    def _agree(self) -> DecodeSettings:
        chance = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name) is not None]
        if self.temperature != 1:
            chance.insert(0, "temperature")
        if self.greedy:
            chance.insert(0, "greedy")
        if self.beam > 1 and chance:
            raise ValueError(f"beam {self.beam} searches, {chance[0]} takes token by token: leave one of them out")
        if self.n_best > self.beam:
            raise ValueError(f"n_best {self.n_best} is more than beam {self.beam}: widen the beam")
        if self.beam % self.groups:
            raise ValueError(f"beam {self.beam} can't be divided into {self.groups} groups of one size")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}")
        if len(self.prefix) > self.max_tokens:
            raise ValueError(f"prefix has {len(self.prefix)} tokens and max_tokens allows {self.max_tokens}")
        if self.include and self.beam == 1:
            raise ValueError("include (--must) needs a beam: set beam to 2 or more")
        if self.include and self.groups > 1:
            raise ValueError("include deals the beam out by what is met, groups by number: leave one of them out")
        self._constraints_agree()
        return self

    def _constraints_agree(self) -> None:
        if any(not phrase for phrase in self.exclude) or any(not group or () in group for group in self.include):
            raise ValueError("include and exclude need at least one token in every phrase")
        needed = sum(min(map(len, group)) for group in self.include)
        if needed > self.max_tokens:
            raise ValueError(f"include needs {needed} tokens and max_tokens allows {self.max_tokens}")
        for group in self.include:
            if all(any(within(bad, phrase) for bad in self.exclude) for phrase in group):
                raise ValueError(f"include and exclude contradict each other: {list(group)} is asked for and ruled out")
            if all(_repeats(phrase, self.no_repeat) for phrase in group):
                raise ValueError(f"include has {list(group)}, which no_repeat {self.no_repeat} rules out")
        if any(within(bad, self.prefix) for bad in self.exclude):
            raise ValueError("prefix has what exclude rules out")

    @property
    def searches(self) -> bool:
        """Whether this is a beam search, and not one token after another."""
        return self.beam > 1

    @property
    def constrained(self) -> bool:
        """Whether some tokens may be ruled out, or forced, at some step."""
        return bool(self.min_tokens or self.no_repeat or self.prefix or self.exclude or self.force_end)

    def fits(self, vocab: int, end: int | None) -> None:
        """Raise ConfigError for what a model with this vocabulary and ``<end>`` can't be asked."""
        if self.beam > vocab:
            raise ConfigError(f"beam {self.beam} is wider than the vocabulary of {vocab} tokens: narrow it.")
        phrases = [self.prefix, *self.exclude, *(phrase for group in self.include for phrase in group)]
        for token in (token for phrase in phrases for token in phrase):
            if not 0 <= token < vocab:
                raise ConfigError(f"A constraint has the token id {token}; the model knows 0 to {vocab - 1}.")
        if end is None:
            return
        if any(end in phrase for group in self.include for phrase in group) or end in self.prefix:
            raise ConfigError("include and prefix can't have the token that ends a text.")
        if (end,) in self.exclude:
            raise ConfigError("exclude rules out the token that ends a text: use max_tokens or min_tokens instead.")


def within(part: Phrase, whole: Phrase) -> bool:
    """Whether these tokens stand in those, one behind the other."""
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


def _repeats(phrase: Phrase, n: int) -> bool:
    grams = [phrase[at : at + n] for at in range(len(phrase) - n + 1)] if n else []
    return len(set(grams)) < len(grams)
