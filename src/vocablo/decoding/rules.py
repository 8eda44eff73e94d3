"""Tokens that a step may not choose, and the one that it must: the scores of all rows are edited at once.

A token that is ruled out gets the score -inf; the others keep theirs, so a hypothesis's log-probability stays the model's.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.decoding.settings import DecodeSettings

NOTHING = -1  # in a history: no token stands here


class Rules:
    """``settings`` applied to the scores of a step. ``history`` [R, T]: what each row has read, -1 where there is nothing."""

    def __init__(self, settings: DecodeSettings, end: int | None, limit: int) -> None:
        self.settings, self.end, self.limit = settings, end, limit
        self.never = [phrase[0] for phrase in settings.exclude if len(phrase) == 1]
        self.phrases = [phrase for phrase in settings.exclude if len(phrase) > 1]

    def forced(self, step: int) -> int | None:
        """The token that the step with this number (from 0) must choose."""
        if step < len(self.settings.prefix):
            return self.settings.prefix[step]
        return self.end if self.settings.force_end and step == self.limit - 1 else None

    def edit(self, logits: Float[Tensor, "R V"], history: Int[Tensor, "R T"], step: int) -> Float[Tensor, "R V"]:
        """Scores with -inf for what is ruled out, in place (a forced step: a new tensor that has 0 for its token)."""
        token = self.forced(step)
        if token is not None:
            only = torch.full_like(logits, -math.inf)
            only[:, token] = 0.0
            return only
        settings = self.settings
        if self.end is not None and step < settings.min_tokens:
            logits[:, self.end] = -math.inf
        if settings.no_repeat:
            rows, tokens = repeated(history, settings.no_repeat)
            logits[rows, tokens] = -math.inf
        if self.never:
            logits[:, self.never] = -math.inf
        for phrase in self.phrases:
            logits[ends_with(history, phrase[:-1]), phrase[-1]] = -math.inf
        return logits


def repeated(history: Int[Tensor, "R T"], n: int) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
    """Rows and tokens: whatever would be the last token of an n-gram that the row has already."""
    if history.shape[1] < n:
        none = history.new_zeros(0)
        return none, none
    grams = history.unfold(1, n, 1)  # [R, T - n + 1, n]
    now = history[:, None, history.shape[1] - n + 1 :]
    seen = (grams[:, :, :-1] == now).all(2) & (grams != NOTHING).all(2)
    rows, places = seen.nonzero(as_tuple=True)
    return rows, grams[rows, places, -1]


def ends_with(history: Int[Tensor, "R T"], phrase: tuple[int, ...]) -> Tensor:
    """bool [R]: the row's last tokens are these. Every row ends with the empty phrase."""
    rows, length = history.shape
    if not phrase:
        return torch.ones(rows, dtype=torch.bool, device=history.device)
    if length < len(phrase):
        return torch.zeros(rows, dtype=torch.bool, device=history.device)
    return (history[:, length - len(phrase) :] == history.new_tensor(phrase)).all(1)


def discouraged(
    logits: Float[Tensor, "R V"], normaliser: Float[Tensor, "R"] | None, history: Int[Tensor, "R T"], penalty: float
) -> Float[Tensor, "R V"]:
    """Repetition penalty (Keskar et al. 2019) for the tokens in a row's history; a new tensor.

    In a search scores are log-probabilities, which are multiplied by ``penalty``: ``logits`` less ``normaliser``. Where it is
    None, they are what they are, as in ``sampling.penalise``: those above 0 are divided.
    """
    rows, places = (history != NOTHING).nonzero(as_tuple=True)
    tokens = history[rows, places]
    old = logits[rows, tokens]
    if normaliser is None:
        changed = torch.where(old < 0, old * penalty, old / penalty)
    else:
        changed = (old - normaliser[rows]) * penalty + normaliser[rows]
    return logits.index_put((rows, tokens), changed)
