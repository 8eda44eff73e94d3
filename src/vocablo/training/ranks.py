"""Ranks: the processes that share one run, and the few things they say to each other.

The data of an optimizer step are split over the ranks, and gradients of *sums* are added up, so that any number of ranks
computes what one would. A single process pays nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from vocablo.base.errors import ConfigError

BUCKET = 1 << 24  # bytes of gradients that travel together
TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among ``world`` processes."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """From ``torch.distributed`` if it is initialised, else from torchrun's environment, else a single process."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        try:
            world = int(os.environ.get("WORLD_SIZE", "1"))
        except ValueError:
            raise ConfigError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, not a number of processes.") from None
        if world == 1:
            return cls()
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Element-wise sums over all ranks."""
        return [int(value) for value in self._sum(torch.tensor(list(values), dtype=torch.int64)).tolist()]

    def sum_floats(self, values: Sequence[float]) -> list[float]:
        """Element-wise sums over all ranks, in double precision."""
        return self._sum(torch.tensor(list(values), dtype=torch.float64)).tolist()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add the gradients of all ranks, in flat buckets; afterwards every rank has the same ones."""
        if self.world == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            size += parameter.grad.nbytes
            if size >= BUCKET:
                _sum_bucket(bucket)
                bucket, size = [], 0
        if bucket:
            _sum_bucket(bucket)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the first rank's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.world > 1:
            dist.barrier()

    def _sum(self, values: Tensor) -> Tensor:
        if self.world > 1 and len(values):
            if dist.get_backend() == "nccl":
                values = values.cuda()
            dist.all_reduce(values)
        return values


def _sum_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
