"""A session: one process's work on one run, as the watchers see it; and what identifies the run to a later session."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from vocablo.base.errors import TrainingError
from vocablo.base.files import storage_errors
from vocablo.training.loop import Pretext, Trainer
from vocablo.training.ranks import Ranks
from vocablo.training.run import RunFolder
from vocablo.training.settings import FREE, TrainSettings


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far: the step it was made after and its mean loss in nats.

    ``terms`` are the losses of its parts and ``accuracy`` the share of targets told rightly, where that is known.
    ``measures`` are those of a task, of which the first is what is best.
    """

    step: int
    loss: float
    terms: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)


@dataclass
class Session:
    """What a watcher may look at. ``total`` is the run's number of steps, known before the first watcher begins."""

    trainer: Trainer
    run: RunFolder
    tokenizer: Any | None
    best: Best | None = None
    seconds: float = 0.0  # of training, earlier processes included
    loss: float = float("nan")  # of the last step
    _open: Any = field(default=None, repr=False)

    @property
    def model(self) -> nn.Module:
        return self.trainer.model

    @property
    def pretext(self) -> Pretext:
        return self.trainer.pretext

    @property
    def settings(self) -> TrainSettings:
        return self.trainer.settings

    @property
    def ranks(self) -> Ranks:
        return self.trainer.ranks

    @property
    def total(self) -> int:
        assert self.trainer.total is not None
        return self.trainer.total

    def due(self, step: int, every: int | None) -> bool:
        """Whether something that happens every so many steps (None: ten times a run) and at the end happens now."""
        return step % (every or max(1, -(-self.total // 10))) == 0 or step == self.total

    def record(self, **line: Any) -> None:
        """Append a line to ``metrics.jsonl`` (first rank only)."""
        if not self.ranks.first:
            return
        with storage_errors(self.run.metrics):
            if self._open is None:
                self._open = self.run.metrics.open("a", encoding="utf-8")
            finite = {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in line.items()
            }
            self._open.write(json.dumps(finite, ensure_ascii=False) + "\n")
            self._open.flush()

    def sync(self) -> None:
        """Have the metrics on the disk: a checkpoint that survives a power cut must not have lost the lines before it."""
        if self._open is not None:
            with storage_errors(self.run.metrics):
                os.fsync(self._open.fileno())

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def identity(trainer: Trainer, tokenizer: Any | None) -> dict[str, Any]:
    """What must be the same when a run is resumed; ``machine`` only decides whether bits are."""
    config = getattr(trainer.model, "config", None)
    shapes = [(name, list(parameter.shape)) for name, parameter in trainer.parameters.items()]
    found = {
        "train": {key: value for key, value in trainer.settings.model_dump().items() if key not in FREE},
        "data": trainer.pretext.fingerprint(),
        "model": config.model_dump() if hasattr(config, "model_dump") else {},
        "parameters_crc32": zlib.crc32(json.dumps(shapes).encode()),
        "tokenizer": None if tokenizer is None else tokenizer.hash,
        "world": trainer.ranks.world,
        "device": trainer.device.type,
        "machine": {"threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    return json.loads(json.dumps(found))


def require_same(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Raise TrainingError naming what differs. Returns a warning when only the bits of the result may differ."""
    changed = _differences(then, now, "")
    if hard := [text for name, text in changed if not name.startswith("machine.")]:
        raise TrainingError(
            "The run can't be resumed as another one: " + "; ".join(hard) + ". Give what it was started with, or start "
            "in another folder."
        )
    if not changed:
        return None
    return "The result may differ in its last bits from an uninterrupted run: " + "; ".join(text for _, text in changed)


def _differences(then: Any, now: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        keys = [*then, *[key for key in now if key not in then]]
        pairs = [(key, then.get(key), now.get(key)) for key in keys]
        return [found for key, old, new in pairs for found in _differences(old, new, f"{path}.{key}" if path else key)]
    return [] if then == now else [(path, f"{path} was {then!r} and is {now!r}")]
