"""Looking inside: queries and keys of any attention are kept on request, and the weights are computed when they are read.

The model's own path doesn't change, and the fused kernels stay in use, whether or not somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor, nn

from vocablo.contract import Fences
from vocablo.nn.attention import explained
from vocablo.nn.look import Look

_open: ContextVar[Taps | None] = ContextVar("taps", default=None)


@dataclass
class Taps:
    """What was recorded: for each attention module, in the order of the forward pass, its queries, keys and fences.

    In a decoder that translates, each layer's attention to itself comes before that to the source. Attention that isn't a
    softmax of q k (a recurrent decoder's) hands over its weights themselves: ``told``, [H, T, S] of each sequence.
    """

    recorded: list[tuple[nn.Module, Tensor, Tensor, tuple[Fences, Fences], Look, float, Tensor | None]] = field(
        default_factory=list
    )
    told: list[tuple[nn.Module, list[Tensor]]] = field(default_factory=list)

    def weights(self, layer: int) -> list[Tensor]:
        """Attention weights [H, T, S] of each sequence, of the ``layer``-th attention that ran (from 0)."""
        _, q, k, (rows, cols), look, scale, bias = self.recorded[layer]
        return explained(q, k, k, rows, cols, look, scale=scale, bias=bias)[1]


def record(
    module: nn.Module,
    q: Tensor,
    k: Tensor,
    rows: Fences,
    look: Look,
    scale: float,
    bias: Tensor | None = None,
    *,
    cols: Fences | None = None,
) -> None:
    """Called by attention modules; does nothing unless somebody watches. ``cols`` None: of attention to itself."""
    taps = _open.get()
    if taps is not None:
        bias = None if bias is None else bias.detach()
        taps.recorded.append((module, q.detach(), k.detach(), (rows, cols or rows), look, scale, bias))


def watched() -> bool:
    """Whether somebody watches, for those who would have to keep their weights."""
    return _open.get() is not None


def record_weights(module: nn.Module, weights: list[Tensor]) -> None:
    """Called by attention that has its weights at hand, [H, T, S] of each sequence; does nothing unless somebody watches."""
    taps = _open.get()
    if taps is not None:
        taps.told.append((module, [one.detach() for one in weights]))


@contextmanager
def watching() -> Iterator[Taps]:
    """Record every attention of the forward passes made inside."""
    taps = Taps()
    token = _open.set(taps)
    try:
        yield taps
    finally:
        _open.reset(token)
