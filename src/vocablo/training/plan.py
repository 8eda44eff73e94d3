"""A dry run: what a run will cost, before it starts.

Parameters, tokens and steps are counted. Memory is parameters + gradients + optimizer, counted, and activations, measured:
the tensors that autograd keeps between the forward and the backward pass of one micro-batch. Time is measured on a few
steps that change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vocablo.base.random import seed_for
from vocablo.training.loop import Trainer


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process while it trains. ``activations`` are measured on one micro-batch, the rest is counted."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will cost. ``tokens_per_step`` is the mean over an epoch; seconds leave evaluation and saving out."""

    parameters: int
    tokens_per_step: float
    tokens_per_epoch: int
    steps_per_epoch: int
    steps: int
    epochs: float
    memory: Memory
    seconds_per_step: float
    seconds: float


def plan(trainer: Trainer) -> Plan:
    """Measure a run that hasn't started; the model and the optimizer are as before afterwards."""
    pretext, settings = trainer.pretext, trainer.settings
    size = sum(parameter.nbytes for parameter in trainer.parameters.values())
    memory = Memory(size, size, 2 * size if settings.optimizer == "adamw" else 0, activation_bytes(trainer))
    each = trainer.calibrate()
    budget = 60 * (settings.minutes or 0)
    steps = trainer.total or max(1, int(budget / each))
    return Plan(
        parameters=sum(parameter.numel() for parameter in trainer.parameters.values()),
        tokens_per_step=pretext.tokens / pretext.steps_per_epoch,
        tokens_per_epoch=pretext.tokens,
        steps_per_epoch=pretext.steps_per_epoch,
        steps=steps,
        epochs=steps / pretext.steps_per_epoch,
        memory=memory,
        seconds_per_step=each,
        seconds=steps * each,
    )


def activation_bytes(trainer: Trainer) -> int:
    """Bytes that autograd keeps for the backward pass of the first micro-batch; parameters don't count."""
    ours = {parameter.untyped_storage().data_ptr() for parameter in trainer.parameters.values()}
    kept: dict[int, Tensor] = {}  # holding the tensors keeps their addresses from being used again

    def note(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in ours:
            kept[place] = tensor
        return tensor

    batches = trainer.pretext.micro_batches(0, trainer.ranks.rank, trainer.ranks.world)
    if not batches:
        return 0
    torch.manual_seed(seed_for(trainer.settings.seed, "plan"))
    trainer.model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), trainer.precision():
        trainer.pretext.terms(trainer.model, batches[0].to(trainer.device), None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
