"""Softmax within the sequences of a flat batch: of the tokens of a text, say, or of the choices of a question.

log p_i = s_i - log sum_j exp(s_j),   j over the members of i's own sequence
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.contract import Fences


def members(fences: Fences, device: torch.device) -> Int[Tensor, "N"]:
    """The number of the sequence that every member belongs to."""
    lengths = torch.tensor(fences.lengths, device=device)
    return torch.repeat_interleave(torch.arange(fences.count, device=device), lengths, output_size=fences.total)


def log_softmax_within(scores: Float[Tensor, "N"], fences: Fences) -> Float[Tensor, "N"]:
    """Log-probabilities that sum to one within every sequence, in float32; no sequence may be empty."""
    scores = scores.float()
    if fences.equal is not None:
        return scores.view(fences.count, fences.equal).log_softmax(1).flatten()
    of = members(fences, scores.device)
    lowest = scores.new_full((fences.count,), -math.inf)
    peaks = lowest.scatter_reduce(0, of, scores.detach(), "amax")  # a constant, for the range of exp
    shifted = scores - peaks.index_select(0, of)
    sums = scores.new_zeros(fences.count).index_add(0, of, shifted.exp())
    return shifted - sums.log().index_select(0, of)
