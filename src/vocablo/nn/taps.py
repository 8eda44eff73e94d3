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
    """What was recorded: for each attention module, in the order of the forward pass, its queries, keys and fences."""

    recorded: list[tuple[nn.Module, Tensor, Tensor, Fences, Look, float, Tensor | None]] = field(default_factory=list)

    def weights(self, layer: int) -> list[Tensor]:
        """Attention weights [H, T, S] of each sequence, of the ``layer``-th attention that ran (from 0)."""
        _, q, k, fences, look, scale, bias = self.recorded[layer]
        return explained(q, k, k, fences, fences, look, scale=scale, bias=bias)[1]


def record(
    module: nn.Module, q: Tensor, k: Tensor, fences: Fences, look: Look, scale: float, bias: Tensor | None = None
) -> None:
    """Called by attention modules; does nothing unless somebody watches."""
    taps = _open.get()
    if taps is not None:
        bias = None if bias is None else bias.detach()
        taps.recorded.append((module, q.detach(), k.detach(), fences, look, scale, bias))


@contextmanager
def watching() -> Iterator[Taps]:
    """Record every attention of the forward passes made inside."""
    taps = Taps()
    token = _open.set(taps)
    try:
        yield taps
    finally:
        _open.reset(token)
