"""How the next token is chosen from logits: greedy, or drawn after filters.

The order of the operations is fixed: repetition penalty, temperature, top-k, top-p, min-p, then the draw. A filter keeps the
tokens that it names and the rest gets probability 0; the most probable token is always kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from vocablo.base.config import Settings


class SamplingSettings(Settings):
    """``greedy`` (or temperature 0) takes the most probable token and ignores the filters."""

    greedy: bool = False
    temperature: float = Field(default=1.0, ge=0)
    top_k: int | None = Field(default=None, ge=1)  # the k most probable (Fan et al. 2018)
    top_p: float | None = Field(default=None, gt=0, le=1)  # the fewest that sum to p (Holtzman et al. 2020)
    min_p: float | None = Field(
        default=None, gt=0, le=1
    )  # at least p times the best one's probability (Nguyen et al. 2024)
    repetition_penalty: float = Field(
        default=1.0, gt=0
    )  # divides logits of tokens that were there (Keskar et al. 2019)

    @property
    def deterministic(self) -> bool:
        return self.greedy or self.temperature == 0


def penalise(logits: Float[Tensor, "B V"], seen: Sequence[Sequence[int]], penalty: float) -> Float[Tensor, "B V"]:
    """Positive logits of seen tokens divided by the penalty, negative ones multiplied."""
    if penalty == 1.0:
        return logits
    logits = logits.clone()
    for row, ids in enumerate(seen):
        at = torch.tensor(sorted(set(ids)), dtype=torch.long)
        values = logits[row, at]
        logits[row, at] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def filtered(logits: Float[Tensor, "B V"], settings: SamplingSettings) -> Float[Tensor, "B V"]:
    """The probabilities that are drawn from, after temperature and filters."""
    logits = logits.float() / settings.temperature
    if settings.top_k is not None and settings.top_k < logits.shape[1]:
        least = logits.topk(settings.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probs = logits.softmax(dim=1)
    if settings.top_p is not None and settings.top_p < 1:
        ranked, order = probs.sort(dim=1, descending=True)
        before = ranked.cumsum(dim=1) - ranked  # what is more probable: a token stays while that is below p
        dropped = torch.zeros_like(probs, dtype=torch.bool).scatter(1, order, before >= settings.top_p)
        probs = probs.masked_fill(dropped, 0)
        probs = probs / probs.sum(dim=1, keepdim=True)
    if settings.min_p is not None:
        probs = probs.masked_fill(probs < settings.min_p * probs.max(dim=1, keepdim=True).values, 0)
        probs = probs / probs.sum(dim=1, keepdim=True)
    return probs


def choose(
    logits: Float[Tensor, "B V"],
    seen: Sequence[Sequence[int]],
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
) -> Int[Tensor, "B"]:
    """One token for each row. Each row has a generator of its own, so what it draws doesn't depend on the others."""
    logits = penalise(logits, seen, settings.repetition_penalty)
    if settings.deterministic:
        return logits.argmax(dim=1)
    sums = filtered(logits, settings).double().cumsum(dim=1)
    draws = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in generators])
    picked = torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True).squeeze(1)
    return picked.clamp(max=logits.shape[1] - 1)
