"""How a Transformer is told where a token stands.

    learned      a table with one row a position                                               (Devlin et al. 2019)
    sinusoidal   P[t, 2i] = sin(t / theta^(2i/D)),  P[t, 2i+1] = cos(t / theta^(2i/D))         (Vaswani et al. 2017, 3.5);
                 ``stretched`` divides by D - 2 for D, so that the slowest angle is t / theta      (fairseq)
    rotary       queries and keys turn by the angle t / theta^(2i/K) in the plane of dimensions 2i and 2i+1, so that their
                 product depends on the distance alone                                         (Su et al. 2021)
    buckets      each head adds to its scores a number for the distance of query and key, in buckets that are exact for
                 near tokens and grow with the logarithm for far ones; every layer has the same     (Raffel et al. 2020).
                 Where a query sees only what is before it, all buckets are for that side

The last goes with any of the others (MPNet has a learned table as well). ``layout`` says which dimensions make a pair: neighbours (``interleaved``), or one of each half (``halves``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings


class Position(Settings):
    """How positions are told. ``max`` is the longest sequence; tables are read from row ``offset`` on."""

    kind: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    max: int = Field(default=1024, ge=1)
    offset: int = Field(default=0, ge=0)
    layout: Literal["interleaved", "halves"] = "interleaved"
    theta: float = Field(default=10000.0, gt=0)
    stretched: bool = False  # sinusoidal: frequencies reach 1 / theta
    turned: int | None = Field(
        default=None, ge=2
    )  # rotary: only the first so many dimensions of a head turn; None: all
    on_values: bool = False  # rotary: values turn, too
    buckets: int = Field(default=0, ge=0)  # of distances, in an encoder half of them for each side; 0: no bias
    distance: int = Field(default=128, ge=2)  # from here on, all distances are one bucket


class Learned(nn.Embedding):
    """A learned table whose first ``offset`` rows belong to no position."""

    def __init__(self, position: Position, width: int) -> None:
        super().__init__(position.max + position.offset, width)
        self.offset = position.offset

    # pyrefly: ignore[bad-override-param-name]
    def forward(self, positions: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return super().forward(positions + self.offset if self.offset else positions)


class Sinusoidal(nn.Module):
    """The fixed table of sines and cosines; it is stored with the model, as published checkpoints do."""

    table: Tensor

    def __init__(self, position: Position, width: int) -> None:
        super().__init__()
        rows = position.max + position.offset
        self.register_buffer("table", sinusoids(rows, width, position.theta, position.layout, position.stretched))
        self.offset = position.offset

    def forward(self, positions: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return F.embedding(positions + self.offset if self.offset else positions, self.table)


class Rotary(nn.Module):
    """Sine and cosine of every position's angles, stored with the model as published checkpoints do."""

    table: Tensor

    def __init__(self, position: Position, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(position.max, position.turned or width, position.theta, "halves"))

    def forward(self, positions: Int[Tensor, "N"]) -> tuple[Float[Tensor, "N 1 K/2"], Float[Tensor, "N 1 K/2"]]:
        """Cosines and sines."""
        sin, cos = F.embedding(positions, self.table)[:, None].chunk(2, -1)
        return cos, sin


class Distances(nn.Embedding):
    """The bias of every head for every distance between a query and a key."""

    def __init__(self, position: Position, heads: int, causal: bool = False) -> None:
        super().__init__(position.buckets, heads)
        self.farthest, self.causal = position.distance, causal

    # pyrefly: ignore[bad-override, bad-override-param-name]
    def forward(self, length: int, first: int = 0) -> Float[Tensor, "H T S"]:
        """The bias of the queries from ``first`` on in a sequence of this length; shorter ones take its corner."""
        steps = torch.arange(length, device=self.weight.device)
        distances = steps[None, :] - steps[first:, None]
        buckets = distance_buckets(distances, self.num_embeddings, self.farthest, self.causal)
        return super().forward(buckets.flatten()).view(length - first, length, -1).permute(2, 0, 1).contiguous()


def distance_buckets(
    distances: Int[Tensor, "..."], buckets: int, farthest: int, causal: bool = False
) -> Int[Tensor, "..."]:
    """The bucket of key minus query: the first half of the buckets are for keys before the query, or at it.

    Of each half, half are for one distance each, and the others get wider up to ``farthest``. ``causal``: there is
    nothing after a query, and no second half.
    """
    side = buckets if causal else buckets // 2
    exact = side // 2
    far = distances.clamp(max=0).abs() if causal else distances.abs()
    steps = torch.log(far.float().clamp(min=1) / exact) / math.log(farthest / exact) * (side - exact)
    wide = (exact + steps.long()).clamp(max=side - 1)
    near = torch.where(far < exact, far, wide)
    return near if causal else near + side * (distances > 0)


Rotation = tuple[Tensor, Tensor] | None
Turning = Callable[[Tensor, Tensor, Tensor, Rotation], tuple[Tensor, Tensor, Tensor]]


def table(position: Position, width: int) -> nn.Module | None:
    """What is added to the embeddings of the tokens, if anything is."""
    if position.kind == "learned":
        return Learned(position, width)
    return Sinusoidal(position, width) if position.kind == "sinusoidal" else None


def turning(position: Position) -> Turning:
    """The function that turns queries, keys (and values) [N, H, K] by a rotation; without one, it changes nothing."""
    if position.kind != "rotary":
        return lambda q, k, v, _: (q, k, v)
    turn = _turn_neighbours if position.layout == "interleaved" else _turn_halves
    if position.turned is not None:
        turn = partial(_turn_first, position.turned, turn)
    if position.on_values:
        return lambda q, k, v, rotation: (turn(q, rotation), turn(k, rotation), turn(v, rotation))
    return lambda q, k, v, rotation: (turn(q, rotation), turn(k, rotation), v)


def sinusoids(length: int, width: int, theta: float, layout: str, stretched: bool = False) -> Float[Tensor, "T D"]:
    """The table of sines and cosines, computed in float64; an odd width ends with a sine."""
    angles = _angles(length, width, theta, stretched)
    sines, cosines = angles.sin(), angles.cos()
    if layout == "halves":
        return torch.cat([sines, cosines], 1)[:, :width].float()
    return torch.stack([sines, cosines], 2).flatten(1)[:, :width].float()


def _angles(length: int, width: int, theta: float, stretched: bool) -> Float[Tensor, "T K"]:
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / (max(width - 2, 1) if stretched else width)
    return torch.arange(length, dtype=torch.float64)[:, None] / theta**exponents


def _turn_first(count: int, turn: Callable[[Tensor, Rotation], Tensor], x: Tensor, rotation: Rotation) -> Tensor:
    return torch.cat([turn(x[..., :count], rotation), x[..., count:]], -1)


def _turn_neighbours(x: Tensor, rotation: Rotation) -> Tensor:
    cos, sin = rotation  # type: ignore[misc]
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)


def _turn_halves(x: Tensor, rotation: Rotation) -> Tensor:
    cos, sin = rotation  # type: ignore[misc]
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
