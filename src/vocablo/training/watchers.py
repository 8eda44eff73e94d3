"""What watches a run: each is called with every step, and does one thing.

Those that remember have ``state`` and ``restore``, and their memory is part of every checkpoint, so an interrupted run goes
on as if it had not been. The order in which they are called matters: an evaluation comes before what looks at it, and
saving comes last, so that a checkpoint of a step has everything that happened at it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vocablo.base.progress import Progress, tell
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
        self.progress.advance(step.tokens, f"step {step.step}, loss {step.loss:.4f}" + _best(self.session.best))

    def end(self) -> None:
        if hasattr(self, "progress"):
            self.progress.__exit__(None, None, None)

    def state(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def restore(self, state: dict[str, Any]) -> None:
        self.tokens = state["tokens"]


def _best(best: Best | None) -> str:
    """The best evaluation so far: a task's measure by its name, of a pretext the loss."""
    if best is None:
        return ""
    name, value = next(iter(best.measures.items()), ("loss", best.loss))
    return f", best validation {name} {value:.4f}"


class Evaluate(Watcher):
    """The mean loss over a held-out store, every so often and after the last step; notes the best one.

    ``every`` is in steps (None: ten times a run). The whole store is read, each token a target once, unless ``batches``
    limits the work; then the loss is an estimate, and ``validation_tokens`` in the metrics says over how many targets.
    Where neither is given, evaluations take at most a fifth of a time budget: they are made less often, and where not even
    two would fit, each reads as many batches as do fit.
    """

    TIMES, LEAST, SHARE = 10, 2, 0.2

    def __init__(self, store: Any, every: int | None = None, batches: int | None = None, *, quiet: bool = True) -> None:
        self.store, self.every, self.batches, self.quiet = store, every, batches, quiet
        self.since_best = 0
        self.times = self.TIMES

    def __call__(self, step: Step) -> None:
        every = self.every or -(-self.session.total // self.times)
        if not self.session.due(step.step, every):
            return
        begun = time.perf_counter()
        found = validate(self.session, self.store, self.batches, quiet=self.quiet)
        self.since_best += 1
        best = self.session.best
        if math.isfinite(found.loss) and (best is None or found.loss < best.loss):
            self.session.best = Best(step.step, found.loss, found.terms, found.accuracy)
            self.since_best = 0
        more = {f"validation_loss_{name}": loss for name, loss in found.terms.items() if len(found.terms) > 1}
        if (words := self.session.pretext.perplexity_of) is not None:
            more["validation_perplexity"] = perplexity(found.terms[words])
        more |= {f"validation_accuracy_{name}": share for name, share in found.accuracy.items()}
        self.session.record(
            step=step.step, validation_loss=found.loss, **more, validation_tokens=found.targets,
            validation_seconds=round(time.perf_counter() - begun, 6),
        )  # fmt: skip

    def cost(self) -> tuple[float, float]:
        begun = time.perf_counter()
        tried = min(2, self.batches or 2)
        found = validate(self.session, self.store, tried)
        ranks = self.session.ranks  # all of them evaluate at the same steps
        each = ranks.sum_floats([time.perf_counter() - begun])[0] / ranks.world
        share = max(1.0, len(self.store.tokens) / max(1, found.read)) if self.batches is None else 1.0
        if self.every is not None:
            return share * each, share * each / self.every
        room = (
            self.SHARE * 60 * (self.session.settings.minutes or math.inf) / max(each, 1e-9)
        )  # in evaluations of ``tried``
        self.times = int(min(self.TIMES, room / share))
        if self.times < self.LEAST and self.batches is None:
            share = max(1.0 / tried, room / self.LEAST)
            self.times, self.batches = self.LEAST, int(share * tried)
            if not self.quiet and ranks.first:
                tell(
                    f"the held-out part is large for so little time: each evaluation reads {self.batches} of its batches, "
                    f"about {share * found.read:,.0f} of {len(self.store.tokens):,} tokens"
                )
        self.times = max(1, self.times)
        return self.times * share * each, 0.0

    def state(self) -> dict[str, Any]:
        return {"since_best": self.since_best, "times": self.times, "batches": self.batches}

    def restore(self, state: dict[str, Any]) -> None:
        self.since_best, self.times = state["since_best"], state.get("times", self.TIMES)
        self.batches = state.get("batches", self.batches)


class Remembers(Protocol):
    """A watcher that counts the evaluations since the best one."""

    since_best: int


class EarlyStop(Watcher):
    """Ends the run after ``patience`` evaluations in a row without a better one. Comes after the watcher it looks at."""

    def __init__(self, evaluate: Remembers, patience: int) -> None:
        self.evaluate, self.patience = evaluate, patience

    def __call__(self, step: Step) -> None:
        if self.evaluate.since_best >= self.patience:
            self.session.trainer.stop("patience")


class Plateau(Watcher):
    """Warns once when, late in a run, a term's loss is still where nothing of context is learnt.

    That is the failure of masked training from scratch that is reported most often: the loss stays near the entropy of
    single words. Late is after half of the steps, and ``LEAST`` at the least; the loss is a running mean.
    """

    LEAST, DECAY, MARGIN = 200, 0.98, 0.1

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.mean: float | None = None
        self.told = False

    def begin(self) -> None:
        self.bound = self.session.pretext.plateau()

    def __call__(self, step: Step) -> None:
        if self.bound is None or self.told or not self.session.ranks.first:
            return
        name, bound = self.bound
        loss = step.terms[name]
        self.mean = loss if self.mean is None else self.DECAY * self.mean + (1 - self.DECAY) * loss
        if step.step < max(self.LEAST, self.session.total // 2) or self.mean < bound - self.MARGIN:
            return
        self.told = True
        settings = self.session.settings
        text = (
            f"After {step.step:,} of {self.session.total:,} steps the {name} loss is {self.mean:.2f}, and one that looks at "
            f"no context has {bound:.2f}: nothing of context is learnt yet. What helps most often: a larger lr (now "
            f"{settings.lr:g}), a larger batch (now {settings.batch}), more steps, and text whose lines don't repeat."
        )
        self.session.record(step=step.step, warning=text)
        if not self.quiet:
            tell(text)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "told": self.told}

    def restore(self, state: dict[str, Any]) -> None:
        self.mean, self.told = state["mean"], state["told"]


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


@dataclass(frozen=True, slots=True)
class Validation:
    """A held-out store evaluated: the mean loss in nats, and the means of its terms.

    ``targets`` is over how many targets (of all terms); ``accuracy`` the share told rightly, of terms that count that;
    ``read`` is how many tokens were read.
    """

    loss: float
    terms: dict[str, float]
    accuracy: dict[str, float]
    targets: int
    read: int


def validate(session: Session, store: Any, batches: int | None = None, *, quiet: bool = True) -> Validation:
    """Evaluate on a held-out store; the ranks share the work. Unless ``quiet``, progress is shown where it takes long."""
    pretext, ranks, trainer = session.pretext, session.ranks, session.trainer
    names = pretext.names
    sums, weights = dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0)
    counts, right = dict.fromkeys(names, 0), dict.fromkeys(names, -1)  # -1: not known
    carried, read = None, 0
    amount, unit = (
        (len(store.tokens) / ranks.world, "tokens") if batches is None and not quiet else (batches, "batches")
    )
    progress = Progress("validate", amount, unit, quiet=quiet or not ranks.first, passing=True)
    with _evaluating(session), trainer.precision(), progress:
        for batch in pretext.validation(store, ranks.rank, ranks.world, batches):
            terms, carried = pretext.terms(session.model, batch.to(trainer.device), carried)
            read += batch.tokens.fences.total
            progress.advance(batch.tokens.fences.total if batches is None else 1)
            for name, term in terms.items():
                sums[name] += float(term.total)
                counts[name] += term.count
                weights[name] = term.weight
                if term.correct is not None:
                    right[name] = max(0, right[name]) + int(term.correct)
    totals = ranks.sum_floats([*sums.values(), *(weights[name] * value for name, value in sums.items())])
    *whole, read = ranks.sum_integers([*counts.values(), *(max(0, number) for number in right.values()), read])
    known = ranks.sum_integers([int(number >= 0) for number in right.values()])
    targets = dict(zip(names, whole[: len(names)], strict=True))
    means = {name: total / max(1, targets[name]) for name, total in zip(names, totals[: len(names)], strict=True)}
    loss = sum(total / max(1, targets[name]) for name, total in zip(names, totals[len(names) :], strict=True))
    shares = zip(names, whole[len(names) :], known, strict=True)
    accuracy = {name: number / max(1, targets[name]) for name, number, some in shares if some}
    return Validation(loss, means, accuracy, sum(targets.values()), read)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is too large for a number."""
    return math.exp(loss) if loss < 700 else math.inf


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
        evaluate = Evaluate(held_out, settings.evaluate_every, settings.evaluate_batches, quiet=quiet)
        yield evaluate
        if settings.patience is not None:
            yield EarlyStop(evaluate, settings.patience)
    if sample is not None and settings.sample_every is not None:
        yield Sample(sample, settings.sample_every)
    yield Plateau(quiet)
    yield Log(quiet)
