"""The key-value cache: what a decoder has read, kept so that a new token costs one row and not the whole text again.

Keys and values of each layer lie in buffers [B, capacity, H, K] that double when they are full. Sequences may have
different lengths; ``lengths`` are host integers. Of a decoder that translates, the keys and values of the source are kept
too (``SourceCache``): once for each source, however many hypotheses read it.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.contract import Fences, Tokens
from vocablo.nn.look import Look, barred

ROOM = 16  # places that a copy has left for what comes next
FULL = 0.75  # of the sources must still be read, or the others' memory goes


class KeyValueCache:
    """The state of ``extend`` for B sequences of one decoder; ``extend`` writes into it, ``select`` copies."""

    def __init__(self, layers: int, count: int, context: int) -> None:
        self.lengths: tuple[int, ...] = (0,) * count
        self.context = context
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self._spare: Tensor | None = None  # a buffer that ``move`` writes into next

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
        self._copy(chosen, rows)
        return chosen

    def move(self, rows: Int[Tensor, "B2"]) -> KeyValueCache:
        """As ``select``, for a search that goes on with these rows alone: this cache changes, and its memory is used again.

        Each layer's rows go where those of the layer before it were: fresh memory at every step costs more than the copy.
        """
        first = self.keys[0] if self.keys else None
        if first is None or len(rows) > len(first):
            return self.select(rows)
        self.lengths = tuple(self.lengths[row] for row in rows.tolist())
        longest, spare = self.longest, self._spare
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                assert buffer is not None
                if spare is None or spare.shape[1:] != buffer.shape[1:] or len(spare) < len(rows):
                    spare = torch.empty_like(buffer)
                into = spare[: len(rows)]
                torch.index_select(buffer[:, :longest], 0, rows, out=into[:, :longest])
                buffers[layer], spare = into, buffer
        self._spare = spare
        return self

    def _copy(self, chosen: KeyValueCache, rows: Int[Tensor, "B2"]) -> None:
        """What was read of the given rows, into another cache."""
        chosen.lengths = tuple(self.lengths[row] for row in rows.tolist())
        chosen.keys = [None if x is None else _picked(x, rows, chosen.longest) for x in self.keys]
        chosen.values = [None if x is None else _picked(x, rows, chosen.longest) for x in self.values]

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


def _picked(buffer: Tensor, rows: Int[Tensor, "B2"], longest: int) -> Tensor:
    """The first ``longest`` places of some rows, with room for more behind them: a beam picks at every step."""
    picked = buffer.new_empty(len(rows), longest + ROOM, *buffer.shape[2:])
    torch.index_select(buffer[:, :longest], 0, rows, out=picked[:, :longest])
    return picked


class SourceCache(KeyValueCache):
    """The state of a decoder that has B hypotheses of S sources; at first one of each.

    ``memory``: of each layer, the source's keys and values, each [S, H, longest source, K], padded. Hypotheses of one source
    look at it together, as so many queries.
    """

    def __init__(
        self,
        layers: int,
        context: int,
        lengths: tuple[int, ...],
        memory: list[tuple[Tensor, Tensor]],
        owners: tuple[int, ...],
    ) -> None:
        super().__init__(layers, len(owners), context)
        self.sources, self.memory, self.owners = lengths, memory, owners
        self.missing = _missing(lengths, memory[0][0]) if memory else None
        self._grid: tuple[Tensor, Tensor] | None = None
        self._shape = (0, 0)

    @classmethod
    def of(cls, layers: int, context: int, fences: Fences, memory: list[tuple[Tensor, Tensor]]) -> SourceCache:
        """``memory``: of each layer, keys and values [S, H, K] of the flat sources."""
        longest, starts = max(fences.lengths), fences.starts()
        if fences.equal is None:
            steps = torch.arange(longest, device=fences.cu.device)
            places = torch.minimum(fences.cu[:-1, None].long() + steps, fences.cu[1:, None].long() - 1).flatten()
            memory = [(k.index_select(0, places), v.index_select(0, places)) for k, v in memory]
        count = len(starts) - 1
        shaped = [
            tuple(x.reshape(count, longest, *x.shape[1:]).transpose(1, 2).contiguous() for x in pair) for pair in memory
        ]
        return cls(layers, context, fences.lengths, shaped, tuple(range(count)))  # type: ignore[arg-type]

    def begin(self, fences: Fences) -> None:
        """Say which new tokens a step has, before its layers look."""
        per = [0] * len(self.sources)
        for owner, length in zip(self.owners, fences.lengths, strict=True):
            per[owner] += length
        most = max(per)
        self._shape = (len(per), most)
        ordered = all(a <= b for a, b in itertools.pairwise(self.owners))
        self._grid = None if ordered and min(per) == most else _grid(self.owners, fences, per, most)

    def look(self, layer: int, q: Float[Tensor, "N H K"], scale: float) -> Float[Tensor, "N H K"]:
        """Let the new queries look at their sources."""
        k, v = self.memory[layer]
        there = q if self._grid is None else q.index_select(0, self._grid[0])
        query = there.view(*self._shape, *q.shape[1:]).transpose(1, 2)
        out = F.scaled_dot_product_attention(query, k, v, attn_mask=self.missing, scale=scale)
        out = out.transpose(1, 2).reshape(there.shape)
        return out if self._grid is None else out.index_select(0, self._grid[1])

    def select(self, rows: Int[Tensor, "B2"]) -> SourceCache:
        """The cache of the given rows, in that order; repeats allowed. Sources that nobody reads go when they are many."""
        sources, memory, owners = self._owned(rows)
        chosen = SourceCache(len(self.keys), self.context, sources, memory, owners)
        self._copy(chosen, rows)
        return chosen

    def move(self, rows: Int[Tensor, "B2"]) -> KeyValueCache:
        """As the cache of one text's ``move``."""
        if self.keys[0] is None or len(rows) > len(self.keys[0]):
            return self.select(rows)
        sources, self.memory, self.owners = self._owned(rows)
        if sources != self.sources:
            self.sources, self.missing = sources, _missing(sources, self.memory[0][0]) if self.memory else None
        return super().move(rows)

    def _owned(self, rows: Int[Tensor, "B2"]) -> tuple[tuple[int, ...], list[tuple[Tensor, Tensor]], tuple[int, ...]]:
        """The sources of these rows, without those that nobody reads if they are many, and whose each row is."""
        owners = [self.owners[row] for row in rows.tolist()]
        used = sorted(set(owners))
        sources, memory = self.sources, self.memory
        if len(used) <= FULL * len(sources):
            kept = torch.tensor(used, device=rows.device)
            sources = tuple(sources[source] for source in used)
            longest = max(sources, default=0)
            memory = [
                (k.index_select(0, kept)[:, :, :longest], v.index_select(0, kept)[:, :, :longest]) for k, v in memory
            ]
            places = {source: place for place, source in enumerate(used)}
            owners = [places[owner] for owner in owners]
        return sources, memory, tuple(owners)


def _missing(lengths: tuple[int, ...], like: Tensor) -> Tensor | None:
    """What is added to scores: minus infinity where a source has no token, [S, 1, 1, longest]; None: all are there."""
    if len(set(lengths)) == 1:
        return None
    there = torch.tensor(lengths, device=like.device)[:, None]
    missing = torch.arange(max(lengths), device=like.device) >= there
    return torch.zeros(missing.shape, dtype=like.dtype, device=like.device).masked_fill_(missing, -math.inf)[
        :, None, None
    ]


def _grid(owners: tuple[int, ...], fences: Fences, per: list[int], most: int) -> tuple[Tensor, Tensor]:
    """Which token stands at each place of [sources, most], and at which place each token stands."""
    filled = [0] * len(per)
    places, token = [0] * (len(per) * most), 0
    back: list[int] = []
    for owner, length in zip(owners, fences.lengths, strict=True):
        for _ in range(length):
            place = owner * most + filled[owner]
            filled[owner] += 1
            places[place] = token
            back.append(place)
            token += 1
    device = fences.cu.device
    return torch.tensor(places, device=device), torch.tensor(back, dtype=torch.long, device=device)


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
