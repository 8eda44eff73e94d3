"""How a recurrent decoder looks at its source: every target token's context is a weighted mean of the source's states.

    additive    e_ij = v . tanh(W [s; h_j] + b)        Bahdanau et al. 2015, with the state s before the step
    dot         e_ij = s . h_j                         Luong et al. 2015, with the state s after it
    general     e_ij = s . (W h_j)                     the same
    none        the context is one vector, whatever the step: where the encoder ended (Cho et al. 2014)

    alpha_i = softmax_j(e_ij)        c_i = sum_j alpha_ij h_j

Sources of unlike length lie padded in ``Memory``, and nowhere else; a pad has no weight. W h_j is made once for a source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocablo.contract import Fences
from vocablo.nn.cache import FULL
from vocablo.nn.recurrent import RecurrentState

Kind = Literal["additive", "dot", "general", "none"]


@dataclass(frozen=True, slots=True)
class Memory:
    """S sources as a decoder looks at them: ``missing`` is -inf where a source has no token; None: all are there."""

    keys: Float[Tensor, "S L A"]
    values: Float[Tensor, "S L M"]
    lengths: tuple[int, ...]
    missing: Float[Tensor, "S L"] | None

    def rows(self, at: Int[Tensor, "R"]) -> Memory:
        """The memory of the given sources, in that order; repeats allowed."""
        lengths = tuple(self.lengths[row] for row in at.tolist())
        longest = max(lengths)
        pick = lambda x: x[:, :longest].index_select(0, at)  # noqa: E731
        missing = None if self.missing is None or min(lengths) == longest else pick(self.missing)
        return Memory(pick(self.keys), pick(self.values), lengths, missing)

    def first(self, count: int) -> Memory:
        """That of the first sources."""
        if count == len(self.lengths):
            return self
        missing = None if self.missing is None else self.missing[:count]
        return Memory(self.keys[:count], self.values[:count], self.lengths[:count], missing)


@dataclass(frozen=True)
class Translating:
    """The state of ``extend`` for R hypotheses: the decoder's layers, and whose source each one looks at."""

    recurrent: RecurrentState
    memory: Memory
    owners: Int[Tensor, "R"]
    weights: Float[Tensor, "R L"] | None = None  # attention of the last step

    def select(self, rows: Int[Tensor, "R2"]) -> Translating:
        """The state of the given rows, in that order; repeats allowed. Sources that nobody reads go when they are many."""
        owners, memory = self.owners.index_select(0, rows), self.memory
        weights = None if self.weights is None else self.weights.index_select(0, rows)
        used = owners.unique()
        if len(used) <= FULL * len(memory.lengths):
            memory, owners = memory.rows(used), torch.searchsorted(used, owners)
            weights = None if weights is None else weights[:, : memory.keys.shape[1]]
        return Translating(self.recurrent.select(rows), memory, owners, weights)

    def each(self) -> int | None:
        """Hypotheses of each source, where they are equally many and stand in the order of the sources."""
        sources, rows = len(self.memory.lengths), len(self.owners)
        if rows % sources:
            return None
        in_order = torch.arange(sources, device=self.owners.device).repeat_interleave(rows // sources)
        return rows // sources if torch.equal(in_order, self.owners) else None


class SourceAttention(nn.Module):
    """Attention of one of the ``kinds`` above; ``width`` is the additive kind's A."""

    def __init__(self, kind: Kind, query: int, memory: int, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.query = nn.Linear(query, width, bias=False) if kind == "additive" else None
        self.key = {
            "additive": lambda: nn.Linear(memory, width),
            "general": lambda: nn.Linear(memory, query, bias=False),
        }.get(kind, nn.Identity)()
        self.score = nn.Linear(width, 1, bias=False) if kind == "additive" else None

    def remember(self, states: Float[Tensor, "N M"], fences: Fences) -> Memory:
        """The encoder's states of every source, none of them empty, with what scores are made from."""
        keys = self.key(states)
        if (length := fences.equal) is not None:
            keys, states = (x.view(fences.count, length, -1) for x in (keys, states))
            return Memory(keys, states, fences.lengths, None)
        longest = max(fences.lengths)
        steps = torch.arange(longest, device=states.device)
        ends = torch.tensor(fences.lengths, device=states.device)
        starts = torch.tensor(fences.starts()[:-1], device=states.device)
        places = starts[:, None] + torch.minimum(steps, ends[:, None] - 1)
        pad = lambda x: x.index_select(0, places.flatten()).view(*places.shape, -1)  # noqa: E731
        missing = torch.zeros(places.shape, device=states.device).masked_fill_(steps >= ends[:, None], -math.inf)
        return Memory(pad(keys), pad(states), fences.lengths, missing)

    def forward(
        self, states: Float[Tensor, "S K D"], memory: Memory
    ) -> tuple[Float[Tensor, "S K M"], Float[Tensor, "S K L"]]:
        """Contexts of K queries of each source, and their weights."""
        if self.query is not None and self.score is not None:
            inner = memory.keys[:, None] + self.query(states)[:, :, None]
            scores = torch.tanh(inner).matmul(self.score.weight[0])
        else:
            scores = states @ memory.keys.transpose(1, 2)
        if memory.missing is not None:
            scores = scores + memory.missing[:, None]
        weights = scores.softmax(2)
        return weights @ memory.values, weights


def explained(
    attention: SourceAttention, state: Float[Tensor, "D"], source: Float[Tensor, "L M"]
) -> tuple[Float[Tensor, "M"], Float[Tensor, "L"]]:
    """The equations for one state and one source, token by token, to be read."""
    scores = []
    for h in source:
        if attention.query is not None and attention.score is not None:
            scores.append(attention.score(torch.tanh(attention.query(state) + attention.key(h)))[0])
        else:
            scores.append(state @ attention.key(h))
    alpha = torch.stack(scores).softmax(0)
    return alpha @ source, alpha
