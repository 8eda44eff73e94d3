"""Choosing the next token from a model's scores.

The scores of a step go through these, in this order; each is left out when its setting is:

1. repetition penalty r (Keskar et al. 2019): the score s of a token that is in the text already becomes s / r when it is
   positive and s r when it is negative;
2. temperature T: s / T; 0 means greedy;
3. top-k (Fan et al. 2018): only the k most probable tokens stay;
4. top-p, the nucleus (Holtzman et al. 2020): of these, the smallest set of most probable tokens whose probabilities,
   renormalised after step 3, sum to p or more;
5. min-p (Nguyen et al. 2024): of these, the tokens that are at least min-p times as probable as the most probable one.

The softmax of what stays is sampled. Of tokens with equal scores, greedy takes the one with the smallest id.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from vocablo.base.config import Settings


class SamplingSettings(Settings):
    """How the next token is chosen; the module's docstring has the definitions."""

    greedy: bool = False
    temperature: float = Field(default=1.0, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)

    @property
    def deterministic(self) -> bool:
        """Whether nothing is left to chance."""
        return self.greedy or self.temperature == 0 or self.top_k == 1


def choose(
    logits: Float[Tensor, "B V"],
    history: Int[Tensor, "B T"] | None,
    settings: SamplingSettings,
    draws: Float[Tensor, "B"] | None = None,
) -> Int[Tensor, "B"]:
    """The next token of each of B rows: a pure function of its arguments.

    ``history``: the tokens that are in each text already (for the repetition penalty only). ``draws``: a uniform number
    from [0, 1) for each row, which picks a token by the inverse of the cumulative probability; not needed when
    ``settings.deterministic``.
    """
    if settings.deterministic:
        return penalise(logits, history, settings.repetition_penalty).argmax(1)
    assert draws is not None, "sampling needs a draw for each row"
    scores, tokens = kept(logits, history, settings)
    below = scores.double().softmax(1).cumsum(1)
    place = torch.searchsorted(below, draws.to(below)[:, None] * below[:, -1:], right=True)
    place = place.clamp_(max=below.shape[1] - 1)
    return (place if tokens is None else tokens.gather(1, place)).squeeze(1)


def distribution(
    logits: Float[Tensor, "B V"], history: Int[Tensor, "B T"] | None, settings: SamplingSettings
) -> Float[Tensor, "B V"]:
    """The probabilities that ``choose`` samples from; all on one token when the settings are deterministic."""
    if settings.deterministic:
        best = choose(logits, history, settings)
        return torch.zeros_like(logits).scatter_(1, best[:, None], 1.0)
    scores, tokens = kept(logits, history, settings)
    probs = scores.softmax(1)
    return probs if tokens is None else torch.zeros_like(logits).scatter_(1, tokens, probs)


def kept(
    logits: Float[Tensor, "B V"], history: Int[Tensor, "B T"] | None, settings: SamplingSettings
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"] | None]:
    """Scores after all five steps, -inf for tokens that are out, and which tokens they belong to (None: all in order)."""
    scores, tokens = penalise(logits, history, settings.repetition_penalty), None
    if settings.temperature != 1:
        scores = scores / settings.temperature
    if settings.top_k is not None:
        scores, tokens = scores.topk(min(settings.top_k, scores.shape[1]), dim=1)
    if settings.top_p is not None and settings.top_p < 1:
        if tokens is None:
            scores, tokens = scores.sort(dim=1, descending=True, stable=True)
        probs = scores.softmax(1)
        before = probs.cumsum(1) - probs  # the first one always stays, since nothing is before it
        scores = scores.masked_fill(before >= settings.top_p, -math.inf)
    if settings.min_p:
        scores = scores.masked_fill(scores < scores.amax(1, keepdim=True) + math.log(settings.min_p), -math.inf)
    return scores, tokens


def penalise(logits: Float[Tensor, "B V"], history: Int[Tensor, "B T"] | None, penalty: float) -> Float[Tensor, "B V"]:
    """Step 1: a new tensor, or ``logits`` itself when there is nothing to penalise."""
    if history is None or penalty == 1:
        return logits
    old = logits.gather(1, history)
    return logits.scatter(1, history, torch.where(old < 0, old * penalty, old / penalty))
