"""Attention on a CPU: sequences of nearly equal length go through one product together.

A product of a few rows costs more in calls than in arithmetic. So sequences are put into groups by length and padded
inside the group, here and nowhere else: queries, keys and values are copied once into [sequence, head, position, K], the
products run over pieces whose scores stay in a core's cache, and the results are copied back. Scores aren't kept; the
backward pass computes them again, and draws the dropped weights again from a saved seed.

How a batch is grouped depends on its lengths alone, so all layers share one ``Plan``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vocablo.nn.dropout import drop_, keep_mask, kept_share, new_seed
from vocablo.nn.look import Look, barred

SCORE_BYTES = 1 << 20  # of the scores that are worked on at once
SLACK = 0.3  # of a group's scores may be padding
SMALL = 1024  # scores: so much padding costs less than another group


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` sequences padded to ``height`` queries and ``width`` keys, and where they lie in the plan's order."""

    count: int
    height: int
    width: int
    rows: slice  # of queries
    cols: slice  # of keys and values
    lacking: Tensor | None  # [count, 1, 1, width]: minus infinity where there is no such key; None: all are there


class Plan:
    """The groups of a batch, and the way between a tensor [N, H, K] and the groups' order [count * H * T, K].

    ``exact``: only sequences of equal lengths share a group.
    """

    def __init__(self, rows: tuple[int, ...], cols: tuple[int, ...], heads: int, exact: bool) -> None:
        members = list(_alike(rows, cols, exact))
        self.heads = heads
        self.queries = _Places(rows, heads, [(chosen, height) for chosen, height, _ in members])
        self.keys = self.queries if rows == cols else _Places(cols, heads, [(chosen, w) for chosen, _, w in members])
        groups, row, col = [], 0, 0
        for chosen, height, width in members:
            end_row, end_col = row + len(chosen) * heads * height, col + len(chosen) * heads * width
            lengths = torch.tensor([cols[i] for i in chosen])[:, None]
            missing = torch.arange(width) >= lengths
            lacking = (
                torch.zeros(missing.shape).masked_fill_(missing, -math.inf)[:, None, None] if missing.any() else None
            )
            groups.append(Group(len(chosen), height, width, slice(row, end_row), slice(col, end_col), lacking))
            row, col = end_row, end_col
        self.groups = tuple(groups)


class _Places:
    """Where each row of a head lies, in the groups' order and in that of the batch."""

    def __init__(self, lengths: tuple[int, ...], heads: int, members: list[tuple[list[int], int]]) -> None:
        starts = torch.tensor([0, *lengths]).cumsum(0)
        sizes = torch.tensor(lengths)
        tokens, real = [], []
        for chosen, longest in members:
            steps = torch.arange(longest)
            there = (steps < sizes[chosen, None])[:, None].expand(-1, heads, -1)
            place = (starts[chosen, None] + steps)[:, None].expand(-1, heads, -1)
            tokens.append(torch.where(there, place, 0).flatten())  # padding reads the first token, and isn't used
            real.append(there.flatten())
        head = [torch.arange(heads).repeat_interleave(longest).repeat(len(chosen)) for chosen, longest in members]
        self.heads = heads
        self.tokens, self.head, present = torch.cat(tokens), torch.cat(head), torch.cat(real)
        self.padding = None if present.all() else (~present).nonzero()[:, 0]
        self.back = torch.empty(int(starts[-1]) * heads, dtype=torch.long)
        self.back[(self.tokens * heads + self.head)[present]] = present.nonzero()[:, 0]
        self._from: dict[int, Tensor] = {}

    def gather(self, x: Float[Tensor, "N H K"]) -> Float[Tensor, "R K"]:
        """The rows of ``x`` in the groups' order. ``x`` may be a part of a wider tensor, as a joined projection gives it."""
        size = x.shape[2]
        if x.stride()[1:] != (size, 1) or x.stride(0) % size:
            x = x.contiguous()
        step = x.stride(0) // size  # rows of K numbers from a token to the next
        index = self._from.get(step)
        if index is None:
            index = self._from[step] = self.tokens * step + self.head
        return x.as_strided(((x.shape[0] - 1) * step + x.shape[1], size), (size, 1)).index_select(0, index)

    def scatter(self, rows: Float[Tensor, "R K"]) -> Float[Tensor, "N H K"]:
        return rows.index_select(0, self.back).view(-1, self.heads, rows.shape[1])


@functools.lru_cache(maxsize=8)
def plan(rows: tuple[int, ...], cols: tuple[int, ...], heads: int, exact: bool) -> Plan:
    """The plan of a batch with these lengths."""
    return Plan(rows, cols, heads, exact)


def _alike(rows: tuple[int, ...], cols: tuple[int, ...], exact: bool) -> Iterator[tuple[list[int], int, int]]:
    """Sequences of nearly equal lengths: their numbers, and the longest queries and keys."""
    order = sorted((i for i, length in enumerate(rows) if length), key=lambda i: (-rows[i], -cols[i], i))
    chosen: list[int] = []
    height = width = 0
    for i in order:
        wider = max(width, cols[i])
        wasted = height * wider - rows[i] * cols[i]
        fits = (rows[i], cols[i]) == (height, width) if exact else wasted <= max(SLACK * height * wider, SMALL)
        if chosen and fits:
            chosen.append(i)
            width = wider
            continue
        if chosen:
            yield chosen, height, width
        chosen, height, width = [i], rows[i], cols[i]
    if chosen:
        yield chosen, height, width


def attend(
    q: Float[Tensor, "N H K"],
    k: Float[Tensor, "M H K"],
    v: Float[Tensor, "M H K"],
    lengths: tuple[tuple[int, ...], tuple[int, ...]],
    bias: Float[Tensor, "H T S"] | None,
    look: Look,
    *,
    scale: float,
    dropout: float,
) -> Float[Tensor, "N H K"]:
    """Attention of queries and keys whose sequences have these lengths."""
    rows, cols = lengths
    # A query that is padding would see nothing but padding through a window.
    exact = look.causal and (rows != cols or look.window > 0)
    places = plan(rows, cols, q.shape[1], exact)
    return _Attend.apply(q, k, v, bias, places, (look, scale, dropout))  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: Plan, settings: tuple[Look, float, float]
    ) -> Tensor:
        look, scale, p = settings
        query, key, value = plan.queries.gather(q).mul_(scale), plan.keys.gather(k), plan.keys.gather(v)
        ctx.seed = new_seed() if p else 0
        out = torch.empty_like(query)
        for number, piece in enumerate(_pieces(plan, query, bias, look)):
            alpha = piece.weights(query, key)
            if p:
                drop_(alpha, keep_mask(alpha.numel(), p, ctx.seed + number))
            torch.bmm(alpha, piece.of_keys(value), out=piece.of_queries(out))
        ctx.save_for_backward(query, key, value, bias)
        ctx.plan, ctx.settings = plan, settings
        return plan.queries.scatter(out.mul_(1.0 / kept_share(p)) if p else out)

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias = ctx.saved_tensors
        plan, (look, scale, p) = ctx.plan, ctx.settings
        above = plan.queries.gather(upstream)
        if plan.queries.padding is not None:
            above.index_fill_(0, plan.queries.padding, 0.0)
        if p:
            above.mul_(1.0 / kept_share(p))
        dq, dk, dv = (torch.empty_like(x) for x in (query, key, value))
        dbias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[3] else None
        for number, piece in enumerate(_pieces(plan, query, bias, look)):
            alpha, rows = piece.weights(query, key), piece.of_queries(above)
            inner = torch.bmm(rows, piece.of_keys(value).transpose(1, 2))
            mask = keep_mask(alpha.numel(), p, ctx.seed + number) if p else None
            inner = torch._softmax_backward_data(inner if mask is None else drop_(inner, mask), alpha, 2, alpha.dtype)
            if mask is not None:
                drop_(alpha, mask)
            torch.bmm(alpha.transpose(1, 2), rows, out=piece.of_keys(dv))
            torch.bmm(inner, piece.of_keys(key), out=piece.of_queries(dq))
            torch.bmm(inner.transpose(1, 2), piece.of_queries(query), out=piece.of_keys(dk))
            if dbias is not None:
                piece.add_bias(inner, dbias)
        back = plan.queries.scatter(dq.mul_(scale)), plan.keys.scatter(dk), plan.keys.scatter(dv)
        return *back, None if dbias is None or bias is None else dbias.to(bias.dtype), None, None


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some heads of some sequences of a group."""

    group: Group
    members: slice
    heads: slice
    of: int  # heads of a sequence
    added: Tensor | None  # to the scores: what a query may not look at, and the bias; [1 or H, T, S]

    def of_queries(self, x: Float[Tensor, "R K"]) -> Float[Tensor, "B T K"]:
        return self._part(x[self.group.rows], self.group.height)

    def of_keys(self, x: Float[Tensor, "R K"]) -> Float[Tensor, "B S K"]:
        return self._part(x[self.group.cols], self.group.width)

    def _part(self, x: Tensor, length: int) -> Tensor:
        first, last = (
            self.members.start * self.of + self.heads.start,
            (self.members.stop - 1) * self.of + self.heads.stop,
        )
        return x.view(-1, length, x.shape[1])[first:last]

    def weights(self, query: Tensor, key: Tensor) -> Float[Tensor, "B T S"]:
        """The softmax of the scores, computed afresh."""
        scores = torch.bmm(self.of_queries(query), self.of_keys(key).transpose(1, 2))
        each = self._each(scores)
        if self.added is not None:
            each += self.added if len(self.added) == 1 else self.added[self.heads]
        if self.group.lacking is not None:
            each += self.group.lacking[self.members].to(scores.dtype)
        return torch.softmax(scores, 2)

    def add_bias(self, inner: Tensor, dbias: Tensor) -> None:
        dbias[self.heads, : self.group.height, : self.group.width] += self._each(inner).sum(0, dtype=dbias.dtype)

    def _each(self, scores: Float[Tensor, "B T S"]) -> Float[Tensor, "n h T S"]:
        return scores.view(self.members.stop - self.members.start, -1, *scores.shape[1:])


def _pieces(plan: Plan, query: Tensor, bias: Tensor | None, look: Look) -> Iterator[_Piece]:
    """The batch in pieces whose scores stay in a cache: whole sequences, or heads of one."""
    heads = plan.queries.heads
    for group in plan.groups:
        added = None if bias is None else bias[:, : group.height, : group.width].to(query.dtype)
        if look.causal:
            hidden = barred(group.height, group.width, look)
            base = torch.zeros(1, *hidden.shape, dtype=query.dtype) if added is None else added
            added = base.masked_fill(hidden, -math.inf)
        per = max(1, SCORE_BYTES // (group.height * group.width * query.element_size()))
        for first in range(0, group.count, max(1, per // heads)):
            members = slice(first, min(first + max(1, per // heads), group.count))
            for head in range(0, heads, min(per, heads)):
                yield _Piece(group, members, slice(head, min(head + per, heads)), heads, added)
