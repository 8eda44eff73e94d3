"""The optimizer: AdamW or plain SGD, with weight decay on matrices only (Loshchilov and Hutter 2019).

A matrix is a parameter of two or more axes, embeddings included; gains and biases are pulled to zero by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from vocablo.base.errors import CheckpointError
from vocablo.training.settings import TrainSettings


def make_optimizer(parameters: Mapping[str, nn.Parameter], settings: TrainSettings) -> Optimizer:
    """The optimizer of the named parameters that require a gradient; each is in exactly one group."""
    learned = [parameter for parameter in parameters.values() if parameter.requires_grad]
    matrices = [parameter for parameter in learned if parameter.ndim >= 2]
    others = [parameter for parameter in learned if parameter.ndim < 2]
    grouped = [id(parameter) for parameter in (*matrices, *others)]
    assert sorted(grouped) == sorted({id(parameter) for parameter in learned}), "the groups must cover all, once each"
    pairs = ((matrices, settings.weight_decay), (others, 0.0))
    groups = [{"params": members, "weight_decay": decay} for members, decay in pairs if members]
    if settings.optimizer == "sgd":
        return SGD(groups, lr=settings.lr)
    return AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's memory under the parameters' names: ``{"exp_avg/blocks.0.mlp.weight": ...}``."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {
        f"{key}/{names[id(parameter)]}": value
        for parameter, memory in optimizer.state.items()
        for key, value in memory.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what ``optimizer_tensors`` gave, bit for bit. Raises CheckpointError when a name or shape doesn't fit."""
    optimizer.state.clear()
    for full, value in tensors.items():
        key, _, name = full.partition("/")
        parameter = parameters.get(name)
        if parameter is None or (value.ndim and value.shape != parameter.shape):
            raise CheckpointError(
                f"The optimizer state has {full!r} {list(value.shape)}, which this model doesn't have."
            )
        place = parameter.device if value.ndim else "cpu"
        optimizer.state[parameter][key] = value.to(place, copy=True)


def gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients together."""
    return torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
