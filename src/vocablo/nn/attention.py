"""Attention, once for every Transformer here: each token's new vector is a weighted mean of the values it may look at.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k) + bias) V                       (Vaswani et al. 2017, eq. 1)

The bias, where a family has one, says what a distance is worth to each head (``nn/positions.py``). ``explained`` is that formula, sequence by sequence, to be read; ``attention`` computes the same numbers on the path that
is fastest for the lengths at hand, and a test holds the two together. Sequences never see one another: the fences say
where each begins, and nothing is padded.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vocablo.contract import Fences
from vocablo.nn.dropout import keep_mask


@dataclass(frozen=True, slots=True)
class Look:
    """Which positions a query may look at. ``causal``: its own and earlier ones, the last row seeing all columns."""

    causal: bool = False


def explained(
    q: Float[Tensor, "N H K"],
    k: Float[Tensor, "M H K"],
    v: Float[Tensor, "M H K"],
    rows: Fences,
    cols: Fences,
    look: Look,
    *,
    scale: float,
    bias: Float[Tensor, "H T S"] | None = None,
) -> tuple[Float[Tensor, "N H K"], list[Float[Tensor, "H T S"]]]:
    """The lecture's formula, one sequence after another: outputs, and the weights of each sequence.

    ``bias`` is as large as the longest sequence needs; a shorter one takes its upper left corner.
    """
    outputs, weights = [], []
    for (r0, r1), (c0, c1) in zip(_spans(rows), _spans(cols), strict=True):
        query, key, value = q[r0:r1].transpose(0, 1), k[c0:c1].transpose(0, 1), v[c0:c1].transpose(0, 1)  # [H, T, K]
        scores = query @ key.transpose(1, 2) * scale  # [H, T, S]
        if bias is not None:
            scores = scores + bias[:, : r1 - r0, : c1 - c0]
        if look.causal:
            scores = scores.masked_fill(_future(r1 - r0, c1 - c0, q.device), -math.inf)
        alpha = scores.softmax(dim=2)
        weights.append(alpha)
        outputs.append((alpha @ value).transpose(0, 1))
    return torch.cat(outputs), weights


def attention(
    q: Float[Tensor, "N H K"],
    k: Float[Tensor, "M H K"],
    v: Float[Tensor, "M H K"],
    rows: Fences,
    cols: Fences,
    look: Look,
    *,
    scale: float,
    dropout: float = 0.0,
    bias: Float[Tensor, "H T S"] | None = None,
) -> Float[Tensor, "N H K"]:
    """The same outputs as ``explained``; ``dropout`` is applied to the weights (Vaswani et al. 2017, 5.4).

    Equal lengths go through one dense product; unequal ones in groups of equal length, since the ready-made
    variable-length kernels have no backward pass on a CPU.
    """
    if rows.equal is not None and cols.equal is not None:
        shape = (rows.count, rows.equal, cols.equal)
        return _dense(q, k, v, shape, look, scale, dropout, bias)
    if (
        q.device.type == "cuda"
        and q.dtype in (torch.float16, torch.bfloat16)
        and rows.lengths == cols.lengths
        and not dropout
        and bias is None
    ):
        from torch.nn.attention.varlen import varlen_attn  # written from its documentation; not run here

        longest = max(rows.lengths)
        window = (-1, 0) if look.causal else (-1, -1)
        return varlen_attn(q, k, v, rows.cu, cols.cu, longest, longest, scale=scale, window_size=window)  # type: ignore[no-any-return]
    return _grouped(q, k, v, rows, cols, look, scale, dropout, bias)


def _grouped(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Fences,
    cols: Fences,
    look: Look,
    scale: float,
    dropout: float,
    bias: Tensor | None,
) -> Tensor:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, lengths in enumerate(zip(rows.lengths, cols.lengths, strict=True)):
        groups[lengths].append(index)
    row_starts, col_starts = rows.starts(), cols.starts()
    parts, places = [], []
    for (height, width), members in groups.items():
        if height == 0:
            continue
        at_rows = _places([row_starts[i] for i in members], height, q.device)
        at_cols = _places([col_starts[i] for i in members], width, q.device)
        query, key, value = q.index_select(0, at_rows), k.index_select(0, at_cols), v.index_select(0, at_cols)
        parts.append(_dense(query, key, value, (len(members), height, width), look, scale, dropout, bias))
        places.append(at_rows)
    order = torch.empty(q.shape[0], dtype=torch.long, device=q.device)
    joined = torch.cat(places)
    order[joined] = torch.arange(len(joined), device=q.device)
    return torch.cat(parts).index_select(0, order)


def _dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    shape: tuple[int, int, int],
    look: Look,
    scale: float,
    dropout: float,
    bias: Tensor | None,
) -> Tensor:
    count, height, width = shape
    heads, size = q.shape[1:]
    query = q.view(count, height, heads, size).transpose(1, 2)  # [B, H, T, K]
    key = k.view(count, width, heads, size).transpose(1, 2)
    value = v.view(count, width, heads, size).transpose(1, 2)
    if bias is not None:
        bias = bias[:, :height, :width].to(q.dtype)
    # The fused kernel of the CPU can't drop and has no gradient of a bias, and its backward pass in bfloat16 is slower
    # than plain products.
    own = dropout or (bias is not None and bias.requires_grad) or (q.dtype == torch.bfloat16 and height == width)
    if q.device.type == "cpu" and own:
        out = _OnCpu.apply(query, key, value, bias, look.causal, scale, dropout)
    elif bias is not None or (look.causal and height != width):
        mask = _added(height, width, look.causal, bias, q)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    else:
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=look.causal, scale=scale)
    return out.transpose(1, 2).reshape(count * height, heads, size)


class _OnCpu(torch.autograd.Function):
    """Attention with dropout on the weights, for the CPU; without dropout, only the backward pass is its own.

    One sequence at a time, so that its weights [H, T, S] stay in the cache; they are computed again in the backward pass
    and the mask is drawn again from a saved seed, so neither is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float, p: float
    ) -> Tensor:
        ctx.seed = int(torch.empty((), dtype=torch.int64).random_()) if p else 0
        ctx.save_for_backward(q, k, v, bias)
        ctx.settings = (causal, scale, p)
        count, heads, height, size = q.shape
        if not p and bias is None and height == k.shape[2]:
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        added = _added(height, k.shape[2], causal, bias, q)
        if not p:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
        out = torch.empty(count, height, heads, size, dtype=q.dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ctx.seed)
            for b in range(count):
                alpha = _weights(q[b] * scale, k[b], added)
                alpha *= keep_mask(alpha.shape, p, alpha.dtype)
                out[b] = torch.bmm(alpha, v[b]).transpose(0, 1)
        return out.transpose(1, 2)

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias = ctx.saved_tensors
        causal, scale, p = ctx.settings
        count, _heads, height, _size = q.shape
        # Laid out as the projections are, [B, T, H, K], so that nothing is copied on the way out.
        grads = [torch.empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3], dtype=x.dtype) for x in (q, k, v)]
        bias_grad = (
            torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[3] else None
        )
        added = _added(height, k.shape[2], causal, bias, q)
        with torch.random.fork_rng(devices=[], enabled=p > 0):
            if p:
                torch.manual_seed(ctx.seed)
            for b in range(count):
                query, above = q[b] * scale, upstream[b]
                alpha = _weights(query, k[b], added)
                inner = torch.bmm(above, v[b].transpose(1, 2))
                dropped = alpha
                if p:
                    mask = keep_mask(alpha.shape, p, alpha.dtype)
                    dropped, inner = alpha * mask, inner.mul_(mask)
                grads[2][b] = torch.bmm(dropped.transpose(1, 2), above).transpose(0, 1)
                inner = torch._softmax_backward_data(inner, alpha, 2, alpha.dtype)
                if bias_grad is not None:
                    bias_grad += inner
                grads[0][b] = torch.bmm(inner, k[b]).mul_(scale).transpose(0, 1)
                grads[1][b] = torch.bmm(inner.transpose(1, 2), query).transpose(0, 1)
        dq, dk, dv = (grad.transpose(1, 2) for grad in grads)
        return dq, dk, dv, None if bias_grad is None else bias_grad.to(bias.dtype), None, None, None


def _added(height: int, width: int, causal: bool, bias: Tensor | None, like: Tensor) -> Tensor | None:
    """What is added to the scores, [H, T, S] or [1, T, S]: the bias, and minus infinity where a query may not look."""
    if not causal:
        return bias
    base = torch.zeros(1, height, width, dtype=like.dtype, device=like.device) if bias is None else bias
    return base.masked_fill(_future(height, width, like.device), -math.inf)


def _weights(q: Tensor, k: Tensor, added: Tensor | None) -> Tensor:
    """Softmax of the scores of scaled queries, [H, T, S]."""
    turned = k.transpose(1, 2)
    return (torch.bmm(q, turned) if added is None else torch.baddbmm(added, q, turned)).softmax(dim=2)


def _future(height: int, width: int, device: torch.device) -> Tensor:
    """bool [T, S]: True where a query may not look; the last row is aligned with the last column."""
    return torch.ones(height, width, dtype=torch.bool, device=device).triu(width - height + 1)


def _places(starts: list[int], length: int, device: torch.device) -> Tensor:
    return (torch.tensor(starts, device=device)[:, None] + torch.arange(length, device=device)).reshape(-1)


def _spans(fences: Fences) -> Iterator[tuple[int, int]]:
    starts = fences.starts()
    return itertools.pairwise(starts)
