"""The linear map y = W x + b, by the product that is fastest here.

On a CPU that is oneDNN's, in float32 too, where torch's own takes another library's; its result goes the same way
whether the weights are whole or compact. Under autocast the cast to bfloat16 and back happens here, once for each weight.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_fused = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(x: Float[Tensor, "N D"], weight: Float[Tensor, "E D"], bias: Tensor | None = None) -> Float[Tensor, "N E"]:
    """x W^T + b, without a backward pass."""
    if _fused is None or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or not len(x):
        return F.linear(x, weight, bias)
    return _fused(x, weight, bias, "none", [], "")


def linear(x: Float[Tensor, "N D"], weight: Float[Tensor, "E D"], bias: Tensor | None = None) -> Float[Tensor, "N E"]:
    """x W^T + b by the product above, with its backward pass."""
    return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return]


class Linear(nn.Linear):
    """torch's module, with the product above."""

    def forward(self, input: Float[Tensor, "N D"]) -> Float[Tensor, "N E"]:
        return linear(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.dtypes = (x.dtype, weight.dtype)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        needs = ctx.needs_input_grad
        return (
            product(upstream, weight.t()).to(of_x) if needs[0] else None,
            (upstream.t() @ x).to(of_weight) if needs[1] else None,
            upstream.sum(0, dtype=of_weight) if needs[2] else None,
        )
