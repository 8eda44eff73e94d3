"""Attention, once for every Transformer here: each token's new vector is a weighted mean of the values it may look at.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k) + bias) V                       (Vaswani et al. 2017, eq. 1)

The bias, where a family has one, says what a distance is worth to each head (``nn/positions.py``). ``explained`` is that
formula, sequence by sequence, to be read; ``attention`` computes the same numbers on the path that is fastest for the
lengths at hand, and a test holds the two together. Sequences never see one another: the fences say where each begins.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vocablo.contract import Fences
from vocablo.nn import cpu_attention
from vocablo.nn.look import Look, barred


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
            scores = scores.masked_fill(barred(r1 - r0, c1 - c0, look, q.device), -math.inf)
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

    Equal lengths go through torch's fused kernel. On a CPU this kernel can't drop, has no gradient of a bias and is slow
    in bfloat16, and no ready-made one for unequal lengths has a backward pass: all that is in ``cpu_attention``.
    """
    height, width = rows.equal, cols.equal
    if look.window >= max(cols.lengths, default=0):
        look = Look(look.causal)
    plain = height is not None and width is not None and not dropout and bias is None and not look.window
    if q.device.type == "cpu" and (not plain or q.dtype == torch.bfloat16):
        lengths = (rows.lengths, cols.lengths)
        return cpu_attention.attend(q, k, v, lengths, bias, look, scale=scale, dropout=dropout)
    if height is not None and width is not None:
        return _dense(q, k, v, (rows.count, height, width), look, scale, dropout, bias)
    if (
        q.device.type == "cuda"
        and q.dtype in (torch.float16, torch.bfloat16)
        and (rows.lengths == cols.lengths or not look.causal)
        and not dropout
        and bias is None
    ):
        from torch.nn.attention.varlen import varlen_attn  # written from its documentation; not run here

        most = max(rows.lengths), max(cols.lengths)
        window = (look.window - 1, 0) if look.causal else (-1, -1)
        return varlen_attn(q, k, v, rows.cu, cols.cu, *most, scale=scale, window_size=window)  # type: ignore[no-any-return]
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
    if bias is not None or look.window or (look.causal and height != width):
        mask = _added(height, width, look, bias, q)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    else:
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=look.causal, scale=scale)
    return out.transpose(1, 2).reshape(count * height, heads, size)


def _added(height: int, width: int, look: Look, bias: Tensor | None, like: Tensor) -> Tensor | None:
    """What is added to the scores, [H, T, S] or [1, T, S]: the bias, and minus infinity where a query may not look."""
    if not look.causal:
        return bias
    base = torch.zeros(1, height, width, dtype=like.dtype, device=like.device) if bias is None else bias
    return base.masked_fill(barred(height, width, look, like.device), -math.inf)


def _places(starts: list[int], length: int, device: torch.device) -> Tensor:
    return (torch.tensor(starts, device=device)[:, None] + torch.arange(length, device=device)).reshape(-1)


def _spans(fences: Fences) -> Iterator[tuple[int, int]]:
    starts = fences.starts()
    return itertools.pairwise(starts)
