"""What watches a run: each is called with every step, and does one thing.

Those that remember have ``state`` and ``restore``, and their memory is part of every checkpoint, so an interrupted run goes
on as if it had not been. The order in which they are called matters: an evaluation comes before what looks at it, and
saving comes last, so that a checkpoint of a step has everything that happened at it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from vocablo.base.progress import Progress
from vocablo.training import state
from vocablo.training.loop import Step
from vocablo.training.session import Best, Session


class Watcher:
    """Does nothing: the methods that a watcher may define. All ranks call all of them."""

    session: Session

    def attach(self, session: Session) -> None:
        """The session has been set up; the number of steps may not be known yet."""
        self.session = session

    def begin(self) -> None:
        """The first step of this process comes next (and everything is restored)."""

    def __call__(self, step: Step) -> None:
        """A step was made."""

    def end(self) -> None:
        """No more steps, for whatever reason."""

    def cost(self) -> tuple[float, float]:
        """Seconds that it takes in a whole run, and for each step on top: a time budget makes room for them."""
        return 0.0, 0.0

    def state(self) -> dict[str, Any]:
        """JSON data to remember."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""


class Log(Watcher):
    """A line in ``metrics.jsonl`` for each step, and progress on standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.tokens = 0

    def begin(self) -> None:
        session = self.session
        total = session.total * session.pretext.tokens / session.pretext.steps_per_epoch
        self.progress = Progress("train", total, "tokens", quiet=self.quiet or not session.ranks.first)
        self.progress.start_at(self.tokens)
        self.progress.__enter__()

    def __call__(self, step: Step) -> None:
        self.tokens += step.tokens
        self.session.record(
            step=step.step, loss=step.loss, **{f"loss_{name}": mean for name, mean in step.terms.items() if len(step.terms) > 1},
            lr=step.lr, grad_norm=step.grad_norm, tokens=step.tokens, seconds=round(step.seconds, 6),
            tokens_per_second=round(step.tokens_per_second, 1),
        )  # fmt: skip
        best = self.session.best
        self.progress.advance(
            step.tokens,
            f"step {step.step}, loss {step.loss:.4f}" + (f", best validation {best.loss:.4f}" if best else ""),
        )

    def end(self) -> None:
        if hasattr(self, "progress"):
            self.progress.__exit__(None, None, None)

    def state(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def restore(self, state: dict[str, Any]) -> None:
        self.tokens = state["tokens"]


class Evaluate(Watcher):
    """The mean loss over a held-out store, every so often and after the last step; notes the best one.

    ``every`` is in steps (None: ten times a run, or less often where that would take over a fifth of a time budget). The
    whole store is read, each token a target once, unless ``batches`` limits the work; then the loss is an estimate, and
    ``validation_tokens`` in the metrics says over how many targets.
    """

    TIMES, SHARE = 10, 0.2

    def __init__(self, store: Any, every: int | None = None, batches: int | None = None) -> None:
        self.store, self.every, self.batches = store, every, batches
        self.since_best = 0
        self.times = self.TIMES

    def __call__(self, step: Step) -> None:
        every = self.every or -(-self.session.total // self.times)
        if not self.session.due(step.step, every):
            return
        begun = time.perf_counter()
        loss, count = validation_loss(self.session, self.store, self.batches)
        self.since_best += 1
        if math.isfinite(loss) and (self.session.best is None or loss < self.session.best.loss):
            self.session.best = Best(step.step, loss)
            self.since_best = 0
        self.session.record(
            step=step.step, validation_loss=loss, validation_tokens=count, validation_seconds=round(time.perf_counter() - begun, 6)
        )  # fmt: skip

    def cost(self) -> tuple[float, float]:
        begun = time.perf_counter()
        _, count = validation_loss(self.session, self.store, min(2, self.batches or 2))
        seconds = time.perf_counter() - begun
        if self.batches is None:
            seconds *= len(self.store.tokens) / max(1, count)
        ranks = self.session.ranks
        seconds = ranks.sum_floats([seconds])[0] / ranks.world  # all ranks evaluate at the same steps
        if self.every is not None:
            return seconds, seconds / self.every
        budget = 60 * (self.session.settings.minutes or math.inf)
        self.times = max(1, int(min(self.TIMES, self.SHARE * budget / max(seconds, 1e-9))))
        return self.times * seconds, 0.0

    def state(self) -> dict[str, Any]:
        return {"since_best": self.since_best, "times": self.times}

    def restore(self, state: dict[str, Any]) -> None:
        self.since_best, self.times = state["since_best"], state.get("times", self.TIMES)


class EarlyStop(Watcher):
    """Ends the run after ``patience`` evaluations in a row without a better loss. Comes after the Evaluate it looks at."""

    def __init__(self, evaluate: Evaluate, patience: int) -> None:
        self.evaluate, self.patience = evaluate, patience

    def __call__(self, step: Step) -> None:
        if self.evaluate.since_best >= self.patience:
            self.session.trainer.stop("patience")


class Sample(Watcher):
    """Text that the model writes as it learns: ``write()`` returns it, every so many steps, into the metrics."""

    def __init__(
        self, write: Callable[[], str], every: int | None = None, show: Callable[[str], None] | None = None
    ) -> None:
        self.write, self.every, self.show = write, every, show

    def __call__(self, step: Step) -> None:
        if not self.session.ranks.first or not self.session.due(step.step, self.every):
            return
        with _evaluating(self.session):
            text = self.write()
        self.session.record(step=step.step, sample=text)
        if self.show is not None:
            self.show(f"step {step.step}: {text}")


class Report(Watcher):
    """Calls ``make(session)`` (which draws ``report.html``, say) every so many steps and at the end, on the first rank."""

    def __init__(self, make: Callable[[Session], None], every: int | None = None) -> None:
        self.make, self.every = make, every

    def __call__(self, step: Step) -> None:
        if self.session.ranks.first and self.session.due(step.step, self.every):
            self.make(self.session)


class Save(Watcher):
    """Checkpoints: every so many steps, at the best evaluation, and when the run stops. Comes after all others."""

    def __init__(self, every: int | None, keep: int, watchers: list[Watcher]) -> None:
        self.every, self.keep, self.watchers = every, keep, watchers

    def __call__(self, step: Step) -> None:
        self.look(step, leaving=False)

    def look(self, step: Step, leaving: bool) -> None:
        """Save if it is time, or if the process is about to leave the run."""
        session = self.session
        best = None if session.best is None else session.best.step
        stopped = leaving or session.trainer.stopped_by is not None
        if stopped or session.due(step.step, self.every) or best == step.step:
            state.save(session, self.watchers)
            if session.ranks.first:
                session.run.prune(self.keep, best)


def validation_loss(session: Session, store: Any, batches: int | None = None) -> tuple[float, int]:
    """The mean loss in nats over a held-out store, and how many targets it is over; the ranks share the work."""
    pretext, ranks, trainer = session.pretext, session.ranks, session.trainer
    sums = dict.fromkeys(pretext.names, 0.0)
    counts = dict.fromkeys(pretext.names, 0)
    weights = dict.fromkeys(pretext.names, 1.0)
    carried = None
    with _evaluating(session), trainer.precision():
        for batch in pretext.validation(store, ranks.rank, ranks.world, batches):
            terms, carried = pretext.terms(session.model, batch.to(trainer.device), carried)
            for name, term in terms.items():
                sums[name] += float(term.total)
                counts[name] += term.count
                weights[name] = term.weight
    totals = ranks.sum_floats([weights[name] * value for name, value in sums.items()])
    targets = ranks.sum_integers(list(counts.values()))
    loss = sum(total / max(1, count) for total, count in zip(totals, targets, strict=True))
    return loss, sum(targets)


class _evaluating:
    """Evaluation mode without gradients, and the mode before it afterwards."""

    def __init__(self, session: Session) -> None:
        self.model = session.model
        self.grad = torch.no_grad()

    def __enter__(self) -> None:
        self.was = self.model.training
        self.model.eval()
        self.grad.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.grad.__exit__(*error)
        self.model.train(self.was)


def standard(
    settings: Any, held_out: Any | None = None, *, quiet: bool = False, sample: Callable[[], str] | None = None
) -> Iterator[Watcher]:
    """The usual watchers for some settings, in their order: evaluation, early stopping, samples, log."""
    if held_out is not None:
        evaluate = Evaluate(held_out, settings.evaluate_every, settings.evaluate_batches)
        yield evaluate
        if settings.patience is not None:
            yield EarlyStop(evaluate, settings.patience)
    if sample is not None and settings.sample_every is not None:
        yield Sample(sample, settings.sample_every)
    yield Log(quiet)
