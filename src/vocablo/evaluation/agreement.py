"""Agreement at a distance: does a model prefer the form that agrees with a word further back?

Each item is a prefix and two forms of its next word (Linzen et al. 2016); a model is right when it gives the agreeing form
the greater probability, and a tie is wrong. Accuracy is given by distance, since that is what tells the families apart: an
n-gram can't see beyond n - 1 words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vocablo.contract import Tokens
from vocablo.data.grammar import AgreementItem

BATCH = 64
FAR = 99  # no sentence is so long


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Accuracy over the items whose target is ``nearest`` to ``furthest`` words behind its controller."""

    nearest: int
    furthest: int
    items: int
    accuracy: float

    @property
    def label(self) -> str:
        if self.furthest >= FAR:
            return f"{self.nearest}+"
        return str(self.nearest) if self.nearest == self.furthest else f"{self.nearest}-{self.furthest}"


@torch.inference_mode()
def agreement(
    model: Any,
    boundary: int,
    token_id: Callable[[str], int | None],
    items: Sequence[AgreementItem],
    edges: Sequence[tuple[int, int]] = ((1, 2), (3, 4), (5, 7), (8, FAR)),
) -> list[AgreementRow]:
    """Accuracy by distance of a left-to-right model over whole words.

    ``token_id`` gives the id of a word (``Tokenizer.id``); items with a word that the vocabulary lacks aren't counted,
    and ``items`` of each row says how many were.
    """
    judged: list[tuple[int, bool]] = []
    usable = [
        (item, ids)
        for item in items
        if None not in (ids := [token_id(word) for word in (*item.prefix, item.right, item.wrong)])
    ]
    for begin in range(0, len(usable), BATCH):
        part = usable[begin : begin + BATCH]
        tokens = Tokens.of([[boundary, *ids[:-2]] for _, ids in part])  # type: ignore[list-item]
        hidden = model.forward(tokens)
        last = tokens.fences.last()
        right, wrong = (
            model.target_log_probs(hidden.states, last, torch.tensor([ids[place] for _, ids in part]))
            for place in (-2, -1)
        )
        judged += [(item.distance, bool(good)) for (item, _), good in zip(part, right > wrong, strict=True)]
    rows = []
    for low, high in edges:
        here = [good for distance, good in judged if low <= distance <= high]
        if here:
            rows.append(AgreementRow(low, high, len(here), sum(here) / len(here)))
    return rows
