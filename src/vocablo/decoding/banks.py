"""Words that a text must contain: grid beam search (Hokamp & Liu 2017), with banks as in Post & Vilar (2018).

A hypothesis is in the bank of the number of constraint tokens that it has met. Beside its best continuations, each
hypothesis offers the next token of every phrase that it hasn't met. The beam is dealt out over the banks in turn: the best of
every bank, fullest first, then the second best of each. A text may end only when all is met.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.decoding.rules import ends_with
from vocablo.decoding.settings import Phrase


class Banks:
    """``include``: groups of phrases; a group is met when one of its phrases stands in the text."""

    def __init__(self, include: tuple[tuple[Phrase, ...], ...], device: torch.device) -> None:
        self.groups = include
        self.phrases = [(number, phrase) for number, group in enumerate(include) for phrase in group]
        self.worth = torch.tensor([max(map(len, group)) for group in include], device=device)

    def begin(self, problems: int, device: torch.device) -> Tensor:
        """bool [P, 1, C]: no group is met."""
        return torch.zeros(problems, 1, len(self.groups), dtype=torch.bool, device=device)

    def progress(self, ids: Int[Tensor, "R T"]) -> list[list[Tensor]]:
        """For each phrase and n, bool [R]: whether the row ends with the phrase's first n tokens (n below its length)."""
        return [[ends_with(ids, phrase[:n]) for n in range(len(phrase))] for _, phrase in self.phrases]

    def offers(self, progress: list[list[Tensor]], met: Tensor) -> tuple[Int[Tensor, "R F"], Tensor]:
        """For each phrase the token that goes on with it, and whether the row still needs it."""
        tokens, needed = [], []
        for (number, phrase), ends in zip(self.phrases, progress, strict=True):
            reached = torch.stack([n * end for n, end in enumerate(ends)]).amax(0)
            tokens.append(reached.new_tensor(phrase)[reached])
            needed.append(~met[:, number])
        return torch.stack(tokens, 1), torch.stack(needed, 1)

    def after(
        self, progress: list[list[Tensor]], met: Tensor, rows: Int[Tensor, "P n"], tokens: Int[Tensor, "P n"]
    ) -> tuple[Tensor, Int[Tensor, "P n"]]:
        """Candidates that add ``tokens`` to ``rows``: which groups they have met, [P, n, C], and their banks."""
        met = met[rows]
        left = self.worth.expand(*rows.shape, -1).clone()
        for (number, phrase), ends in zip(self.phrases, progress, strict=True):
            reached = torch.zeros_like(tokens)
            for n, end in enumerate(ends):
                reached = torch.where(end[rows] & (tokens == phrase[n]), n + 1, reached)
            met[:, :, number] |= reached == len(phrase)
            left[:, :, number] = torch.minimum(left[:, :, number], len(phrase) - reached)
        return met, torch.where(met, self.worth, self.worth - left).sum(2)

    def dealt(self, scores: Float[Tensor, "P n"], banks: Int[Tensor, "P n"], count: int) -> Int[Tensor, "P K"]:
        """Which ``count`` candidates the beam keeps; those with -inf come last."""
        order = scores.argsort(dim=1, descending=True, stable=True)
        sorted_banks = banks.gather(1, order)
        top = int(self.worth.sum())
        dead = scores.gather(1, order) == -math.inf
        place = torch.zeros_like(order)
        for bank in range(top + 1):
            here = sorted_banks == bank
            place = torch.where(here, here.cumsum(1) - 1, place)
        key = place * (top + 1) + (top - sorted_banks)
        key = key + dead * (key.shape[1] + 1) * (top + 1)
        return order.gather(1, key.topk(min(count, key.shape[1]), dim=1, largest=False).indices)
