"""Dropout (Srivastava et al. 2014), with masks that are a function of a seed, so that none has to be kept or moved.

Element number i of a mask is 16 bits of a hash of i and the seed (the multiplications and shifts with which MurmurHash3
ends): whole vectors of numbers at once, on all threads, where torch's generator draws one number after another on one.
The seed comes from torch's generator. An element is kept when its bits, read as a signed number, are below a threshold,
and the kept ones are divided by the share that is really kept: the mean is exact, and p is right to 2^-16.
Dropping clears all bits of a number, which is what 0.0 is.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_PIECE = 1 << 17  # elements whose passes stay in a core's cache


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p (to 2^-16) and scale the others up; x itself outside training or for p = 0."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, p)
    return _Dropout.apply(x, p)  # type: ignore[no-any-return]


def kept_share(p: float) -> float:
    """The share of elements that a mask keeps: 1 - p in 32768ths."""
    return min(max(round((1.0 - p) * 32768), 1), 32767) / 32768


def new_seed() -> int:
    """A seed for masks from torch's generator."""
    return int(torch.empty((), dtype=torch.int64).random_())


def keep_mask(count: int, p: float, seed: int) -> Tensor:
    """int16 [count]: all bits set where an element is kept, none where it is dropped. Any two seeds are unrelated."""
    key = _mixed(seed)
    x = _counters(1 << max(10, (count // 2).bit_length()))[: (count + 1) // 2] * _signed(0x9E3779B9)
    x += _signed(key)
    x ^= x >> 15
    x *= _signed(0x85EBCA6B)
    x ^= _signed(key >> 32)
    x ^= x >> 13
    x *= _signed(0xC2B2AE35)
    bits = x.view(torch.int16)[:count].bitwise_right_shift_(1)  # halved, so that no difference overflows
    return bits.sub_(round(kept_share(p) * 32768) - 16384).bitwise_right_shift_(15)


def drop_(x: Tensor, mask: Tensor) -> Tensor:
    """Clear, in place, the elements that a mask doesn't keep; the others aren't scaled."""
    integer = _INTEGERS[x.element_size()]
    x.view(-1).view(integer).bitwise_and_(mask.to(integer))
    return x


@functools.lru_cache(maxsize=1)
def _counters(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.int32)


def _mixed(seed: int) -> int:
    """64 bits, all of which depend on all of the seed's (SplitMix64, Steele et al. 2014)."""
    bits = (seed + 0x9E3779B97F4A7C15) % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return bits ^ bits >> 31


def _signed(bits: int) -> int:
    """The lowest 32 bits as a signed number."""
    return (bits & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.seed, ctx.p = new_seed(), p
        return _dropped(x, p, ctx.seed)

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return _dropped(upstream, ctx.p, ctx.seed), None


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    out = (x * (1.0 / kept_share(p))).contiguous()
    for number, piece in enumerate(out.view(-1).split(_PIECE)):
        drop_(piece, keep_mask(piece.numel(), p, seed + number))
    return out


class Dropout(nn.Module):
    """``dropout`` as a module."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
