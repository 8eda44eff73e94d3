"""The key-value cache: what a decoder has read, kept so that a new token costs one row and not the whole text again.

Keys and values of each layer lie in buffers [B, capacity, H, K] that double when they are full. Sequences may have
different lengths; ``lengths`` are host integers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.contract import Fences, Tokens
from vocablo.nn.look import Look, barred


class KeyValueCache:
    """The state of ``extend`` for B sequences of one decoder; ``extend`` writes into it, ``select`` copies."""

    def __init__(self, layers: int, count: int, context: int) -> None:
        self.lengths: tuple[int, ...] = (0,) * count
        self.context = context
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers

    @property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    def continued(self, tokens: Tokens) -> Int[Tensor, "N"]:
        """Positions of new tokens, counted on from what was read."""
        fences = tokens.fences
        if fences.equal == 1 and len(set(self.lengths)) == 1:
            return torch.full_like(tokens.ids, self.lengths[0])
        before = [self.lengths[b] + t for b, length in enumerate(fences.lengths) for t in range(length)]
        return torch.tensor(before, dtype=torch.long, device=tokens.ids.device)

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "N H K"],
        k: Tensor,
        v: Tensor,
        fences: Fences,
        look: Look,
        *,
        scale: float,
        bias: Float[Tensor, "H T S"] | None = None,
    ) -> Float[Tensor, "N H K"]:
        """Store the new keys and values of a layer and let the new queries look at what came before them.

        ``bias`` is for queries from the shortest sequence's next place on.
        """
        keys, values = self._room(layer, k, fences)
        if fences.equal is not None and len(set(self.lengths)) == 1:
            new, old, count = fences.equal, self.lengths[0], fences.count
            total = old + new
            keys[:, old:total] = k.view(count, new, *k.shape[1:])
            values[:, old:total] = v.view(count, new, *v.shape[1:])
            mask = _mask(new, total, look, None if bias is None else bias[:, :new, :total], q)
            out = _look(q.view(count, new, *q.shape[1:]), keys[:, :total], values[:, :total], mask, scale)
            return out.reshape(q.shape)
        parts = []
        starts, first = fences.starts(), min(self.lengths)
        for b, (old, new) in enumerate(zip(self.lengths, fences.lengths, strict=True)):
            rows, total = slice(starts[b], starts[b + 1]), old + new
            keys[b, old:total], values[b, old:total] = k[rows], v[rows]
            if new:
                own = None if bias is None else bias[:, old - first : total - first, :total]
                mask = _mask(new, total, look, own, q)
                parts.append(_look(q[rows][None], keys[b : b + 1, :total], values[b : b + 1, :total], mask, scale)[0])
        return torch.cat(parts)

    def advance(self, fences: Fences) -> None:
        """Count the tokens of a step as read, once all layers have stored theirs."""
        self.lengths = tuple(old + new for old, new in zip(self.lengths, fences.lengths, strict=True))

    def select(self, rows: Int[Tensor, "B2"]) -> KeyValueCache:
        """The cache of the given rows, in that order; repeats allowed."""
        chosen = KeyValueCache(len(self.keys), len(rows), self.context)
        chosen.lengths = tuple(self.lengths[row] for row in rows.tolist())
        longest = chosen.longest
        chosen.keys = [None if x is None else x[:, :longest].index_select(0, rows) for x in self.keys]
        chosen.values = [None if x is None else x[:, :longest].index_select(0, rows) for x in self.values]
        return chosen

    def _room(self, layer: int, k: Tensor, fences: Fences) -> tuple[Tensor, Tensor]:
        """The layer's buffers, with room for the new tokens."""
        needed = max(old + new for old, new in zip(self.lengths, fences.lengths, strict=True))
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None or keys.shape[1] < needed:
            capacity = min(max(64, 2 * needed), max(self.context, needed))
            shape = (len(self.lengths), capacity, *k.shape[1:])
            grown = [torch.zeros(shape, dtype=k.dtype, device=k.device) for _ in range(2)]
            for new, old in zip(grown, (keys, values), strict=True):
                if old is not None:
                    new[:, : old.shape[1]] = old
            keys, values = self.keys[layer], self.values[layer] = grown
        return keys, values


def _mask(new: int, total: int, look: Look, bias: Tensor | None, like: Tensor) -> Tensor | None:
    """What is added to the scores of new queries, or where they may look; None: nothing, and everywhere."""
    if new == 1 and not look.window:
        return bias
    hidden = barred(new, total, look, like.device)
    return ~hidden if bias is None else bias.masked_fill(hidden, -math.inf)


def _look(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """[B, T, H, K] queries over [B, S, H, K] keys and values."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)
