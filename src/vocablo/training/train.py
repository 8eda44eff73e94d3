"""``train``: one run from its first step, or from wherever an earlier process left it, to its end."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vocablo.base.errors import ConfigError
from vocablo.base.files import require_space
from vocablo.training import state
from vocablo.training.loop import Pretext, Trainer
from vocablo.training.run import RESUME, Interrupted, RunFolder
from vocablo.training.session import Best, Session, identity, require_same
from vocablo.training.settings import TrainSettings
from vocablo.training.watchers import Save, Watcher


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. ``loss`` is the last step's, in nats a target; ``stopped_by`` is ``steps`` or ``patience``.

    The finished model in the run's folder is that of ``best`` when there were evaluations, else the last one; with
    ``train.average`` the mean of the newest checkpoints.
    """

    steps: int
    loss: float
    best: Best | None
    seconds: float
    stopped_by: str


def train(
    model: nn.Module,
    pretext: Pretext,
    settings: TrainSettings,
    run: RunFolder,
    watchers: Sequence[Watcher],
    tokenizer: Any | None = None,
    resume: bool = False,
) -> RunResult:
    """Train ``model`` in place; on return it has the parameters of the last step, and ``run.out`` the finished model.

    ``watchers`` are called in order with each step; saving comes after them. With ``resume`` the run goes on from its
    newest whole checkpoint; the first one is written before the first step. SIGINT and SIGTERM end the running step, save, and raise
    Interrupted. Raises TrainingError for a loss that isn't finite or a resume that doesn't match, StorageError for a
    full disk, ConfigError for settings that don't fit the model or the data.
    """
    pretext.check(model)
    if pretext.batch != settings.batch:
        raise ConfigError(
            f"The pretext's batch is {pretext.batch}, the settings' {settings.batch}: they must be equal."
        )
    trainer = Trainer(model, pretext, settings)
    if settings.batch_tokens is not None and getattr(pretext, "batch_tokens", None) != settings.batch_tokens:
        raise ConfigError(
            "train.batch_tokens is of labelled tasks (translate, classify, ...): here train.batch counts."
        )
    if settings.average is not None and len(pretext.modules() or ()):
        raise ConfigError("train.average is of a model without heads beside it: leave it out here.")
    if settings.batch < trainer.ranks.world:
        raise ConfigError(f"batch is {settings.batch}, fewer than the {trainer.ranks.world} ranks: make it larger.")
    session = Session(trainer, run, tokenizer)
    save = Save(settings.save_every, settings.keep, list(watchers))
    for watcher in (*watchers, save):
        watcher.attach(session)
    try:
        _set_out(session, watchers, resume)
        with _signals(trainer):
            _run(session, watchers, save)
        return _finish(session)
    finally:
        session.close()
        run.close()


def _set_out(session: Session, watchers: Sequence[Watcher], resume: bool) -> None:
    """Bring the session to the step where it starts, and write down what identifies the run."""
    trainer, run, first = session.trainer, session.run, session.ranks.first
    known = run.read_state() if resume else {}
    mine = identity(trainer, session.tokenizer)
    if known and (warning := require_same(known["identity"], mine)):
        warnings.warn(warning, stacklevel=4)
    if first:
        require_space(run.folder, state.checkpoint_bytes(trainer), "A checkpoint")
    trainer.total = known.get("total", trainer.total)
    if trainer.total is None:
        trainer.total = steps_in(session, watchers)
    trainer.settings.warmup_steps(trainer.total)
    if first:
        run.write_state(identity=mine, total=trainer.total, status="running")
    found = run.newest() if resume and first else None
    step = session.ranks.sum_integers([-1 if found is None else found] if first else [0])[0]
    if first:
        run.truncate_metrics(max(step, 0))
    if step >= 0:
        state.restore(session, watchers, step)
    else:
        state.save(session, watchers)  # from here on the run no longer depends on how the caller made the model


def steps_in(session: Session, watchers: Sequence[Watcher]) -> int:
    """How many steps fit into ``minutes``, with the watchers' work, by a measurement that changes nothing."""
    settings = session.settings
    assert settings.minutes is not None
    each = session.trainer.calibrate()
    costs = [watcher.cost() for watcher in watchers]
    budget = settings.minutes * 60 - sum(whole for whole, _ in costs)
    steps = int(budget / (each + sum(more for _, more in costs)))
    return session.ranks.sum_integers([max(1, steps)])[0] // session.ranks.world


def _run(session: Session, watchers: Sequence[Watcher], save: Save) -> None:
    trainer = session.trainer
    try:
        for watcher in watchers:
            watcher.begin()
        for step in trainer:
            session.seconds += step.seconds
            session.loss = step.loss
            for watcher in watchers:
                watcher(step)
            leaving = trainer.interrupted  # looked at once: a signal may come at any moment
            save.look(step, leaving)
            if leaving and trainer.done < session.total and trainer.stopped_by is None:
                _leave(session)
    finally:
        for watcher in watchers:
            watcher.end()


def _leave(session: Session) -> None:
    number = session.trainer.signal or signal.SIGTERM
    if session.ranks.first:
        session.run.write_state(status="interrupted")
    raise Interrupted(
        f"Stopped by {signal.Signals(number).name} after step {session.trainer.done} of {session.total}, which is saved in "
        f"{session.run.out}: {RESUME}.",
        number,
    )


def _finish(session: Session) -> RunResult:
    trainer, run = session.trainer, session.run
    result = RunResult(trainer.done, session.loss, session.best, session.seconds, trainer.stopped_by or "steps")
    if session.ranks.first:
        kept: Any = trainer.done if session.best is None else session.best.step
        if trainer.settings.average is None:
            run.finish(run.path(kept))
        else:
            kept = [step for step in run.checkpoints() if step][-trainer.settings.average :]
            _finish_averaged(session, kept)
        run.write_state(status="finished", stopped_by=result.stopped_by, steps=result.steps, finished_model=kept)
    session.ranks.wait()
    return result


def _finish_averaged(session: Session, steps: Sequence[int]) -> None:
    """The mean of these checkpoints' parameters as the finished model; the model in memory stays as it is."""
    run, model = session.run, session.trainer.model
    last = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sums: dict[str, Any] = {}
    for step in steps:
        state.read_model(run.path(step), model)
        for name, tensor in model.state_dict().items():
            sums[name] = sums.get(name, 0) + tensor.double() if tensor.is_floating_point() else tensor.clone()
    mean = {
        name: (total / len(steps)).to(last[name].dtype) if last[name].is_floating_point() else total
        for name, total in sums.items()
    }
    model.load_state_dict(mean)
    with tempfile.TemporaryDirectory(dir=run.folder) as folder:
        state.write_model(Path(folder), model, session.tokenizer, *state.kept(session.pretext))
        run.finish(Path(folder))
    model.load_state_dict(last)


@contextlib.contextmanager
def _signals(trainer: Trainer) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks the trainer to stop; a second one has its usual effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: Any) -> None:
        trainer.signal = number
        signal.signal(number, before[signal.Signals(number)])

    for number in numbers:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
