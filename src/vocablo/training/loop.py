"""The one training loop: it yields steps, and everything else watches.

    for step in trainer:
        for watcher in watchers:
            watcher(step)

An optimizer step is a set of sequences, split into micro-batches and over ranks. Losses are sums; each is divided once, by
its count over the whole step, so any split gives the gradients of the large batch. Before each micro-batch the random
generators are seeded from (seed, step, micro-batch, rank), and batches are a pure function of the step, so the parameters,
the optimizer's memory, the carried state and one integer are all that a resumed run needs.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vocablo.base.errors import ConfigError, TrainingError
from vocablo.base.random import seed_for
from vocablo.contract import Batch, Term
from vocablo.training.optimizer import gradient_norm, make_optimizer, set_learning_rate
from vocablo.training.ranks import Ranks
from vocablo.training.schedules import learning_rate
from vocablo.training.settings import TrainSettings
from vocablo.training.tree import map_tensors


class Pretext(Protocol):
    """What the loop asks of a pretext; ``pretexts/`` says what each does."""

    names: tuple[str, ...]  # of its terms
    perplexity_of: str | None  # the term that is -log p of tokens
    batch: int  # sequences of an optimizer step, over all ranks
    tokens: int  # of an epoch

    @property
    def steps_per_epoch(self) -> int: ...
    def continues(self, step: int) -> bool: ...
    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]: ...
    def terms(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]: ...
    def validation(self, store: Any, rank: int = 0, world: int = 1, batches: int | None = None) -> Iterator[Batch]: ...
    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None: ...
    def modules(self) -> nn.ModuleDict | None: ...
    def check(self, model: Any) -> None: ...
    def plateau(self) -> tuple[str, float] | None: ...
    def fingerprint(self) -> dict[str, Any]: ...


@runtime_checkable
class Keeps(Protocol):
    """A pretext whose heads are saved otherwise than they are trained, or that ``config.json`` tells more of."""

    def kept(self) -> tuple[Mapping[str, nn.Module] | nn.ModuleDict, Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step that was made. Losses are means over the step's targets, in nats, before the update."""

    step: int  # updates made so far, this one included
    loss: float
    terms: dict[str, float]
    tokens: int  # read in this step, over all ranks
    lr: float
    grad_norm: float  # before clipping
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)


class Trainer:
    """Iterating makes optimizer steps until ``total`` updates are made or ``stop`` is called.

    ``model`` is trained in place; its parameters and those of ``pretext.modules()`` go to one optimizer. ``total`` may be
    None at first for a time budget; set it before iterating. Raises TrainingError before an update with a loss or
    gradient that is not finite.
    """

    def __init__(self, model: nn.Module, pretext: Pretext, settings: TrainSettings, ranks: Ranks | None = None) -> None:
        self.model, self.pretext, self.settings = model, pretext, settings
        self.ranks = ranks or Ranks.current()
        self.parameters = named_parameters(model, pretext.modules())
        self.optimizer = make_optimizer(self.parameters, settings)
        self.device = next(iter(self.parameters.values())).device
        self.total = settings.total_steps(pretext.steps_per_epoch)
        self.done = 0  # updates made
        self.carried: list[Any] = []  # one state for each of this rank's micro-batches
        self.stopped_by: str | None = None
        self.signal: int | None = None  # set by a signal handler
        self.agreed = False  # whether any rank had a signal at the end of the last step: all ranks know the same
        self.ranks.share([*self.parameters.values(), *model.buffers()])
        if settings.compile:
            require_compiler()
            model.compile()

    def stop(self, reason: str) -> None:
        """Make no step after this one; ``reason`` ends up in the run's result."""
        self.stopped_by = self.stopped_by or reason

    @property
    def interrupted(self) -> bool:
        """Whether a signal asks this run to save and leave; the same on all ranks after a step."""
        return self.agreed if self.ranks.world > 1 else self.signal is not None

    def __iter__(self) -> Iterator[Step]:
        assert self.total is not None, "a time budget has to be measured first"
        self.settings.warmup_steps(self.total)
        self.model.train()
        with deterministic():
            while self.done < self.total and self.stopped_by is None:
                yield self._step()

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which losses are computed: autocast to bfloat16, or nothing."""
        if self.settings.dtype == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def calibrate(self, at_least: int = 3, seconds: float = 2.0) -> float:
        """Seconds of a step, the optimizer's work included, measured without changing a parameter or a memory."""
        self.model.train()
        times: list[float] = []
        with deterministic():
            while len(times) <= at_least or (sum(times) < seconds and len(times) < 50):
                begun = time.perf_counter()
                self._gradients(len(times) % self.pretext.steps_per_epoch)
                set_learning_rate(self.optimizer, 0.0)
                self.optimizer.step()
                times.append(time.perf_counter() - begun)
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self.carried = []
        rest = times[1:]  # the first one allocates memory and warms caches
        return self.ranks.sum_floats([sum(rest) / len(rest)])[0] / self.ranks.world

    def _step(self) -> Step:
        begun = time.perf_counter()
        loss, terms, tokens = self._gradients(self.done)
        norm = gradient_norm(list(self.parameters.values()))
        self._require_finite(loss, float(norm))
        if self.settings.clip is not None and float(norm) > self.settings.clip:
            for parameter in self.parameters.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(self.settings.clip / (float(norm) + 1e-6))
        assert self.total is not None
        lr = learning_rate(self.settings, self.done, self.total, self.pretext.steps_per_epoch)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return Step(self.done, loss, terms, tokens, lr, float(norm), time.perf_counter() - begun)

    def _gradients(self, index: int) -> tuple[float, dict[str, float], int]:
        """Leave the whole step's gradients in ``.grad``; returns the loss, its terms and the number of tokens read."""
        batches = [
            batch.to(self.device) for batch in self.pretext.micro_batches(index, self.ranks.rank, self.ranks.world)
        ]
        names = self.pretext.names
        mine = [sum(batch.targets[name].count for batch in batches) for name in names]
        read = sum(batch.tokens.fences.total for batch in batches)
        read += sum(batch.source.fences.total for batch in batches if batch.source is not None)
        *counts, tokens = self.ranks.sum_integers([*mine, read])
        divisor = {name: max(1, count) for name, count in zip(names, counts, strict=True)}
        before = self.carried if self.pretext.continues(index) and self.carried else [None] * len(batches)
        self.carried = []
        sums = dict.fromkeys(names, 0.0)
        loss = 0.0
        for number, (batch, state) in enumerate(zip(batches, before, strict=True)):
            reseed(self.device, seed_for(self.settings.seed, "step", index, number, self.ranks.rank))
            with self.precision():
                terms, state = self.pretext.terms(self.model, batch, state)
                part = _weighted(terms, divisor)
            part.backward()
            loss += float(part.detach())
            self.carried.append(map_tensors(Tensor.detach, state))
            for name, term in terms.items():
                assert term.count == batch.targets[name].count, f"{name} counts other targets than its batch"
                sums[name] += float(term.total.detach())
        self.ranks.sum_gradients(self.parameters.values())
        asked = float(self.signal is not None)
        *totals, loss, asked = self.ranks.sum_floats([*sums.values(), loss, asked])
        self.agreed = asked > 0
        means = {name: total / divisor[name] for name, total in zip(names, totals, strict=True)}
        return loss, means, tokens

    def _require_finite(self, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        self.optimizer.zero_grad(set_to_none=True)
        raise TrainingError(
            f"Step {self.done + 1}: {what}. No parameter was changed by this step and the checkpoints are intact. "
            f"Start again in another folder with a smaller lr (now {self.settings.lr:g}), a longer warmup or a smaller clip"
            + (", or dtype fp32." if self.settings.dtype != "fp32" else ".")
        )


def named_parameters(model: nn.Module, extra: nn.Module | None) -> dict[str, nn.Parameter]:
    """Each parameter once (tied ones under their first name), those of the pretext under ``pretext.``."""
    named = dict(model.named_parameters())
    if extra is not None:
        named |= {f"pretext.{name}": parameter for name, parameter in extra.named_parameters()}
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


def require_compiler() -> None:
    """Raise ConfigError when ``compile`` can't work: torch's compiler for CPUs needs a C++ compiler."""
    if os.environ.get("CXX") or any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        return
    raise ConfigError("train.compile needs a C++ compiler (g++ or clang++), and none is found: leave it off.")


def reseed(device: torch.device, seed: int) -> None:
    """Seed the generators that work on ``device`` draws from.

    ``torch.manual_seed`` would do, but it notes a stack trace for devices that aren't in use, 3 ms a call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Only algorithms that give the same bits each time, as long as the context lasts.

    Filling fresh memory with a known value, which torch adds by default, isn't needed for that and costs time.
    """
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        memory.fill_uninitialized_memory = filled


def _weighted(terms: dict[str, Term], divisor: dict[str, int]) -> Tensor:
    parts = [term.total * (term.weight / divisor[name]) for name, term in terms.items()]
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]
