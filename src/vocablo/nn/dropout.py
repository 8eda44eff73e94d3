"""Dropout (Srivastava et al. 2014) with a mask of 16 random bits an element, which on a CPU costs a fraction of a float draw.

Torch's generator draws 64-bit words; each gives four elements their bits. An element is kept when its bits, read as a
signed number, are below a threshold, and the kept ones are divided by the share that is really kept: the mean is exact,
and p is right to 2^-17.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability p (to 2^-17) and scale the others up; x itself outside training or for p = 0."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, p)
    return x * keep_mask(x.shape, p, x.dtype)


def keep_mask(shape: torch.Size | tuple[int, ...], p: float, dtype: torch.dtype) -> Tensor:
    """0 with probability p, else one over the kept share."""
    count = 1
    for size in shape:
        count *= size
    kept = min(max(round((1.0 - p) * 65536), 1), 65535)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    return (bits[:count].view(shape) < kept - 32768).to(dtype).mul_(65536.0 / kept)


class Dropout(nn.Module):
    """``dropout`` as a module."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
