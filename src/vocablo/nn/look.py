"""Which positions a query of an attention may look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Look:
    """Which positions a query may look at. ``causal``: its own and earlier ones, the last row seeing all columns.

    ``window``: only so many of these, its own being the nearest (Child et al. 2019); 0: all.
    """

    causal: bool = False
    window: int = 0


def barred(height: int, width: int, look: Look, device: torch.device | str = "cpu") -> Tensor:
    """bool [T, S]: True where a query of a causal look may not look, being later or, with a window, too far back.

    The last row is aligned with the last column.
    """
    everywhere = torch.ones(height, width, dtype=torch.bool, device=device)
    future = everywhere.triu(width - height + 1)
    return future | everywhere.tril(width - height - look.window) if look.window else future
