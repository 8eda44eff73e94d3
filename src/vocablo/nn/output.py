"""From states to logits: the output layer of an encoder, and small heads that are kept beside a model.

p(w | h) = softmax(E t + b),   t = Norm(activation(W h + c))              (Devlin et al. 2019; E is the token table)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.nn import pooling
from vocablo.nn.crf import CRF
from vocablo.nn.features import Features
from vocablo.nn.head import smoothed_log_probs, target_log_probs
from vocablo.nn.layers import ACTIVATIONS, Activation
from vocablo.nn.linear import Linear, linear


class Head(Settings):
    """The output layer: the token table itself when tied, else a matrix of its own.

    ``transform`` puts a linear map, the activation and a norm before it (encoders). ``width`` None is the token table's.
    ``scaled``: states are divided by the square root of their width first (T5 with a tied table).
    """

    tied: bool = True
    bias: bool = False
    scaled: bool = False
    transform: bool = False
    activation: Activation = "gelu"
    width: int | None = Field(default=None, ge=1)


class OutputLayer(nn.Module):
    """Logits of chosen states. The token table comes with the call when it is tied."""

    def __init__(self, head: Head, width: int, vocab: int, table_width: int, eps: float) -> None:
        super().__init__()
        inner = head.width or table_width
        self.transform: nn.Module = Scaled(width**-0.5) if head.scaled else nn.Identity()
        if head.transform:
            self.transform = Transform(width, inner, head.activation, eps)
        self.weight = None if head.tied else nn.Parameter(torch.empty(vocab, inner))
        self.bias = nn.Parameter(torch.zeros(vocab)) if head.bias else None

    def forward(self, states: Float[Tensor, "M D"], table: Float[Tensor, "V E"]) -> Float[Tensor, "M V"]:
        return linear(self.transform(states), self._matrix(table), self.bias)

    def target_log_probs(
        self, states: Float[Tensor, "M D"], ids: Int[Tensor, "M"], table: Float[Tensor, "V E"]
    ) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[m]) in nats; the M x V matrix is never made whole."""
        return target_log_probs(self.transform(states), None, ids, self._matrix(table), self.bias)

    def smoothed_log_probs(
        self, states: Float[Tensor, "M D"], ids: Int[Tensor, "M"], table: Float[Tensor, "V E"], smoothing: float
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
        """As ``nn/head.smoothed_log_probs``."""
        return smoothed_log_probs(self.transform(states), None, ids, self._matrix(table), self.bias, smoothing)

    def _matrix(self, table: Tensor) -> Tensor:
        return table if self.weight is None else self.weight


class Scaled(nn.Module):
    """Multiplied by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        return states * self.factor


class Transform(nn.Module):
    """Norm(activation(W h + c))."""

    def __init__(self, width: int, inner: int, activation: str, eps: float) -> None:
        super().__init__()
        self.dense = Linear(width, inner)
        self.norm = nn.LayerNorm(inner, eps=eps)
        self.activation = ACTIVATIONS[activation]

    def forward(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M E"]:
        return self.norm(self.activation(self.dense(states)))


PARTS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def parts_of(head: nn.Module) -> tuple[str, ...]:
    """A small head in words, such as ("linear", "tanh", "linear"): what a checkpoint says beside its tensors.

    A CRF, a BiLSTM on features and a pooling say themselves what they are. Raises CheckpointError for a module that is neither one
    of these, nor a linear map, nor a sequence of these parts.
    """
    if isinstance(head, (CRF, Features, pooling.FeedForwardAttention, pooling.ContextAttention)):
        return (head.part,)
    parts = list(head) if isinstance(head, nn.Sequential) else [head]
    names: list[str] = []
    for part in parts:
        name = "linear" if isinstance(part, nn.Linear) else next((n for n, k in PARTS.items() if type(part) is k), None)
        if isinstance(part, nn.GELU) and part.approximate == "tanh":
            name = "gelu_tanh"
        if name is None:
            raise CheckpointError(
                f"A head of {type(part).__name__} can't be saved; only of linear, {', '.join(PARTS)}."
            )
        names.append(name)
    return tuple(names)


def head_of(parts: Sequence[str], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The head that ``parts_of`` described, with these tensors. Raises CheckpointError when they don't belong together."""
    alone = len(parts) == 1
    if alone and (kind := parts[0].partition(":")[0]) in ("crf", "features", "pooling"):
        return _filled(_own(kind, parts[0], tensors), tensors)
    modules: list[nn.Module] = []
    for number, part in enumerate(parts):
        if part == "linear":
            weight = tensors.get("weight" if alone else f"{number}.weight")
            if weight is None or weight.dim() != 2:
                raise CheckpointError("The weights of a head are missing or misshapen.")
            has_bias = ("bias" if alone else f"{number}.bias") in tensors
            modules.append(nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias, dtype=weight.dtype))
        elif part == "gelu_tanh":
            modules.append(nn.GELU("tanh"))
        elif part in PARTS:
            modules.append(PARTS[part]())
        else:
            raise CheckpointError(f"A head has a part {part!r} that isn't known here.")
    return _filled(modules[0] if alone else nn.Sequential(*modules), tensors)


def _own(kind: str, part: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    try:
        if kind == "pooling":
            return pooling.restored(part, tensors)
        return CRF(len(tensors["first"])) if kind == "crf" else Features.restored(part, tensors)
    except (ConfigError, KeyError, ValueError):
        raise CheckpointError(f"The weights of a head {part!r} are missing or misshapen.") from None


def _filled(head: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    try:
        head.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"The weights of a head don't fit: {' '.join(str(error).split())[:300]}") from None
    return head
