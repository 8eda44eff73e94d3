"""The measures of a task on held-out examples, as the run goes on: what its best model is chosen by."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from vocablo.base.errors import ConfigError, nearest
from vocablo.measures.measurement import Measurement
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._rows import Encoded
from vocablo.tasks._task import Task
from vocablo.training.loop import Step
from vocablo.training.session import Best
from vocablo.training.watchers import Watcher, perplexity, validate

PERPLEXITY = "perplexity"


class Measure(Watcher):
    """Predicts the held-out examples every so many steps and after the last one, measures, and notes the best.

    ``by`` names the measure that decides (None: the task's first, of one that writes the perplexity; ``loss``: the lower loss). Every rank predicts all
    examples. The loss is over ``encoded``, the same examples.
    """

    def __init__(self, examples: Sequence[Any], encoded: Encoded, every: int | None, by: str | None = None) -> None:
        self.examples, self.encoded, self.every, self.by = examples, encoded, every, by
        self.since_best = 0

    def __call__(self, step: Step) -> None:
        if not self.session.due(step.step, self.every):
            return
        begun = time.perf_counter()
        lesson: Any = self.session.pretext
        loss = self._loss(lesson)
        if by_loss(lesson.task, self.by):
            values = {PERPLEXITY: perplexity(loss)}
        else:
            values = self._values(lesson.task, lesson)
        self.since_best += 1
        if self._better(loss, values):
            self.session.best = Best(step.step, loss, measures=values)
            self.since_best = 0
        self.session.record(
            step=step.step,
            validation_loss=loss,
            **{f"validation_{name.replace(' ', '_')}": value for name, value in values.items()},
            validation_examples=len(self.examples),
            validation_seconds=round(time.perf_counter() - begun, 6),
        )

    def cost(self) -> tuple[float, float]:
        begun = time.perf_counter()
        lesson: Any = self.session.pretext
        if by_loss(lesson.task, self.by):
            self._loss(lesson)
        else:
            self._values(lesson.task, lesson)
        seconds = 2 * (time.perf_counter() - begun)
        return (10 * seconds, 0.0) if self.every is None else (seconds, seconds / self.every)

    def state(self) -> dict[str, Any]:
        return {"since_best": self.since_best}

    def restore(self, state: dict[str, Any]) -> None:
        self.since_best = state["since_best"]

    def _loss(self, lesson: Lesson) -> float:
        return validate(self.session, self.encoded).loss

    def _values(self, task: Task, lesson: Lesson) -> dict[str, float]:
        with self.session.trainer.precision():
            predictions = task.predict(self.session.model, lesson.heads, self.examples)
        predictions = task.tune(self.examples, predictions)
        return ordered(task.measures(self.examples, predictions), self.by)

    def _better(self, loss: float, values: dict[str, float]) -> bool:
        best = self.session.best
        if self.by == "loss":
            return math.isfinite(loss) and (best is None or loss < best.loss)
        name, value = next(iter(values.items()))
        if not math.isfinite(value):
            return best is None
        before = None if best is None else best.measures[name]
        return before is None or not math.isfinite(before) or ranked(name, value) > ranked(name, before)


def by_loss(task: Any, by: str | None) -> bool:
    """Whether models are chosen by the perplexity of held-out targets: of a task that writes, unless a measure is named."""
    return getattr(task, "writes", False) and by in (None, "loss", PERPLEXITY)


def ranked(name: str, value: float) -> float:
    """A measure's value, greater for a better one."""
    return -value if name == PERPLEXITY else value


def ordered(measures: dict[str, Measurement], by: str | None) -> dict[str, float]:
    """Values of measures, the one that decides first. Raises ConfigError for one that the task doesn't have."""
    values = {name: one.value for name, one in measures.items()}
    if by is None or by == "loss":
        return values
    if by not in values:
        raise ConfigError(f"This task has no measure {by!r}{nearest(by, [*values, 'loss'])}")
    return {by: values[by], **values}
