"""Compact weights for inference: a model's multiplied weights as bfloat16, or as int8 with one scale for each row.

    int8    w ~ s q,   s = max |w| / 127 of a row,   q = round(w / s)

Only weights are rounded: inputs, sums, biases, norms and the key-value cache stay float32, and so do scores. A product
of a few inputs costs what reading its weights costs, so a token is generated two or four times as fast. The native part
(``native.cpp``) does the products where it can be built, else torch does, with weights widened strip by strip.

A Transformer's layers, head and (tied) token table become compact, a recurrent model's head; tables that are only looked
up and recurrent weights stay as they are. An n-gram model has nothing to multiply. A model made compact can be asked
everything; it can't be trained or saved. Without the native part it is smaller, not faster.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocablo.base.errors import ConfigError, nearest
from vocablo.nn import native
from vocablo.nn.stepping import Step

DTYPES = ("bf16", "int8")
WIDEST = 1 << 16  # inputs of a row of int8 weights: exact sums of more wouldn't fit 32 bits
STRIP_BYTES = 1 << 20  # of widened weights: they stay in the cache until they are multiplied


def quantize(model: Any, dtype: str) -> None:
    """Make a model's multiplied weights compact, in place, and put it in evaluation mode.

    ``dtype`` is ``bf16`` or ``int8``. Raises ConfigError for another, for a model that is compact already and for weights
    that aren't finite.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"Weights can't be made compact as {dtype!r}{nearest(dtype, DTYPES)}")
    if not isinstance(model, nn.Module):
        return
    if any(isinstance(module, Compact) for module in model.modules()):
        raise ConfigError("This model's weights are compact already: load it again for another dtype.")
    model.float()
    for parent, name, linear in list(_linears(model)):
        setattr(parent, name, CompactLinear(linear.weight, linear.bias, dtype))
    if model.reads == "left" and getattr(model, "head", model) is None:  # the token table is the head as well
        head = CompactLinear(model.get_parameter("tokens.weight"), getattr(model, "head_bias", None), dtype)
        model.head, model.tokens = head, CompactTable(head)
    if hasattr(model, "step"):
        model.step = Step.of(model)  # type: ignore[assignment]
    model.requires_grad_(False).eval()


def _linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child


class Compact(nn.Module):
    """What all modules with compact weights refuse to do."""

    def train(self, mode: bool = True) -> Compact:
        if mode:
            raise ConfigError("A model with compact weights can't be trained: load it without dtype (fp32).")
        return super().train(False)

    def _save_to_state_dict(self, *_: Any, **__: Any) -> None:
        raise ConfigError("A model with compact weights can't be saved: load it without dtype (fp32) and save that.")


class CompactLinear(Compact):
    """y = W x + b with W [R, D] held as bfloat16 or int8."""

    scale: Tensor | None
    sums: Tensor | None
    bias: Tensor | None
    weights: Tensor

    def __init__(self, weight: Float[Tensor, "R D"], bias: Float[Tensor, "R"] | None, dtype: str) -> None:
        super().__init__()
        weight = weight.detach().float()
        if not weight.isfinite().all():
            raise ConfigError("Some weights are NaN or infinite: the model can't be made compact, train it again.")
        self.out_features, self.in_features = weight.shape
        if dtype == "bf16":
            held, scale, sums = weight.bfloat16(), None, None
        else:
            if self.in_features > WIDEST:
                raise ConfigError(f"int8 weights have at most {WIDEST} columns, these {self.in_features}: use bf16.")
            held, scale = rounded(weight)
            sums = held.sum(1, dtype=torch.int32)
        self.register_buffer("weights", held.contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("sums", sums)
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())
        self.eval()

    @property
    def weight(self) -> Float[Tensor, "R D"]:
        """The weights as float32, made for the caller."""
        return self.rows(slice(None))

    def rows(self, chosen: slice | Int[Tensor, "M"]) -> Float[Tensor, "M D"]:
        """Some rows as float32."""
        wide = self.weights[chosen].float()
        return wide if self.scale is None else wide.mul_(self.scale[chosen, None])

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N R"]:
        library = native.library(len(x)) if x.device.type == "cpu" else None
        if library is None:
            return self.by_torch(x)
        x = x.float().contiguous()
        y = x.new_empty(x.shape[0], self.out_features)
        matrix = self.matrix()
        library.vocablo_product(ctypes.byref(matrix), x.data_ptr(), x.shape[0], y.data_ptr(), native.threads())
        return y

    def by_torch(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N R"]:
        """The same without the native part."""
        strip = max(STRIP_BYTES // (4 * self.in_features), 16)
        starts = range(0, self.out_features, strip)
        parts = [F.linear(x.float(), self.rows(slice(start, start + strip))) for start in starts]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return y if self.bias is None else y.add_(self.bias)

    def matrix(self) -> native.Matrix:
        """What the native part needs to know; good while this module's tensors are."""
        held = (self.weights, self.scale, self.sums, self.bias)
        compact = int(self.weights.dtype == torch.int8)
        return native.Matrix(*map(native.address, held), self.out_features, self.in_features, compact, 0)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.weights.dtype}"


class CompactTable(Compact):
    """A token table [V, D] that shares the weights of a compact head."""

    def __init__(self, head: CompactLinear) -> None:
        super().__init__()
        self.held = head
        self.eval()

    @property
    def weight(self) -> Float[Tensor, "V D"]:
        return self.held.weight

    def forward(self, ids: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return self.held.rows(ids)


def rounded(weight: Float[Tensor, "R D"]) -> tuple[Int[Tensor, "R D"], Float[Tensor, "R"]]:
    """int8 weights and the scale of each row; the largest of a row becomes 127 in size."""
    scale = weight.abs().amax(1).div_(127).clamp_(min=torch.finfo(torch.float32).tiny)
    return (weight / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale
