"""One vector for a whole sequence, made of the states of its tokens; sequences lie flat behind one another, without a pad.

    last, first     s = h_T,  s = h_1
    ends            s = [h_T forward; h_1 backward]      of states read both ways: where each direction ends
    mean, max       s = (1/T) sum_t h_t,  s_d = max_t h_td
    attention       e_t = tanh(w . h_t + b)              alpha = softmax(e)          s = sum_t alpha_t h_t
                    (feed-forward attention, Raffel & Ellis 2016)
    han             u_t = tanh(W h_t + b)                alpha = softmax(u_t . u)    s = sum_t alpha_t h_t
                    (of words or sentences, Yang et al. 2016; u asks "what is informative?")

A sequence without tokens has no such vector and is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.contract import Fences
from vocablo.nn.within import log_softmax_within, members

Kind = Literal["last", "first", "ends", "mean", "max", "attention", "han"]
KINDS: tuple[str, ...] = get_args(Kind)
LEARNT = ("attention", "han")  # those that have weights of their own, and say what each token weighed


def pool(states: Float[Tensor, "N D"], fences: Fences, kind: str) -> Float[Tensor, "B D"]:
    """The vector of each sequence, of the kinds without weights. Raises DataError for an empty sequence."""
    _check(fences)
    if kind == "last":
        return states.index_select(0, fences.last())
    if kind == "first":
        return states.index_select(0, fences.first())
    if kind == "ends":
        half = states.shape[1] // 2
        forward, backward = states[:, :half], states[:, half:]
        return torch.cat([forward.index_select(0, fences.last()), backward.index_select(0, fences.first())], dim=1)
    if kind == "mean":
        return _sums(states, fences) / torch.tensor(fences.lengths, device=states.device, dtype=states.dtype)[:, None]
    if kind == "max":
        if fences.equal is not None:
            return states.view(fences.count, fences.equal, -1).amax(1)
        of = members(fences, states.device)[:, None].expand_as(states)
        lowest = states.new_full((fences.count, states.shape[1]), -torch.inf)
        return lowest.scatter_reduce(0, of, states, "amax")
    raise ConfigError(f"There is no pooling {kind!r} without weights{nearest(kind, KINDS)}")


def weighted(
    states: Float[Tensor, "N D"], scores: Float[Tensor, "N"], fences: Fences
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "N"]]:
    """sum_t alpha_t h_t of each sequence, and the alpha, which sum to one within it."""
    _check(fences)
    alpha = log_softmax_within(scores, fences).exp().to(states.dtype)
    return _sums(alpha[:, None] * states, fences), alpha


class FeedForwardAttention(nn.Module):
    """e_t = tanh(w . h_t + b): one number for each token, whatever stands around it (Raffel & Ellis 2016, eq. 6)."""

    part = "pooling:attention"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, states: Float[Tensor, "N D"], fences: Fences) -> tuple[Float[Tensor, "B D"], Float[Tensor, "N"]]:
        """The vector of each sequence, and what each token weighs in its own."""
        return weighted(states, torch.tanh(self.score(states)).squeeze(1), fences)


class ContextAttention(nn.Module):
    """u_t = tanh(W h_t + b), compared with a learnt context vector u (Yang et al. 2016, eq. 5-7)."""

    part = "pooling:han"

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or width
        self.map = nn.Linear(width, hidden)
        self.context = nn.Parameter(torch.randn(hidden) * hidden**-0.5)

    def forward(self, states: Float[Tensor, "N D"], fences: Fences) -> tuple[Float[Tensor, "B D"], Float[Tensor, "N"]]:
        """The vector of each sequence, and what each token weighs in its own."""
        return weighted(states, torch.tanh(self.map(states)) @ self.context, fences)


def learnt(kind: str, width: int, hidden: int | None = None) -> FeedForwardAttention | ContextAttention:
    """A fresh module of the kinds with weights; ``hidden`` is the width of HAN's u (None: that of the states)."""
    if kind == "attention":
        return FeedForwardAttention(width)
    if kind == "han":
        return ContextAttention(width, hidden)
    raise ConfigError(f"There is no pooling {kind!r} with weights{nearest(kind, LEARNT)}")


def restored(part: str, tensors: Mapping[str, Tensor]) -> FeedForwardAttention | ContextAttention:
    """An unfilled module of the sizes that its tensors show; ``part`` is what a checkpoint says beside them."""
    matrix = tensors["score.weight"] if part == FeedForwardAttention.part else tensors["map.weight"]
    return learnt(part.removeprefix("pooling:"), matrix.shape[1], matrix.shape[0])


def _sums(rows: Float[Tensor, "N D"], fences: Fences) -> Float[Tensor, "B D"]:
    if fences.equal is not None:
        return rows.view(fences.count, fences.equal, -1).sum(1)
    return rows.new_zeros(fences.count, rows.shape[1]).index_add(0, members(fences, rows.device), rows)


def _check(fences: Fences) -> None:
    if 0 in fences.lengths:
        raise DataError(f"Sequence {fences.lengths.index(0)} (from 0) has no tokens, so no vector can stand for it.")
