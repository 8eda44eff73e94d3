"""A checkpoint of a run: everything that the next process needs to go on as if nothing had happened.

Parameters, the optimizer's memory, the carried state of each rank's streams, the number of updates and what the watchers
remember. No random state: every draw is seeded from the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vocablo.base.errors import CheckpointError, TrainingError
from vocablo.base.files import TEMPORARY, storage_errors
from vocablo.training.loop import Keeps
from vocablo.training.optimizer import optimizer_tensors, restore_optimizer
from vocablo.training.run import safetensors_errors
from vocablo.training.session import Best, Session
from vocablo.training.tree import rebuild, tensors_of

WEIGHTS = "model.safetensors"


def write_model(
    folder: Path,
    model: nn.Module,
    tokenizer: Any | None,
    heads: Mapping[str, nn.Module] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """The model's files: in the checkpoint layout with its tokenizer and heads, or its bare tensors without a tokenizer."""
    if tokenizer is None:
        safetensors.torch.save_model(model, str(folder / WEIGHTS))
        return
    from vocablo import checkpoint  # its import is slow, and training from Python may have no tokenizer

    checkpoint.write(folder, model, tokenizer, heads, more)


def kept(pretext: Any) -> tuple[Mapping[str, nn.Module], Mapping[str, Any]]:
    """The heads that are saved beside a model, and further entries of ``config.json``: a task has its own of both."""
    modules, more = pretext.kept() if isinstance(pretext, Keeps) else (pretext.modules(), {})
    return dict(modules.items()) if isinstance(modules, (nn.ModuleDict, Mapping)) else {}, more


def read_model(folder: Path, model: nn.Module) -> None:
    """Put a checkpoint's tensors into ``model``, bit for bit. Raises CheckpointError when they don't fit."""
    try:
        if (folder / "config.json").exists():
            from vocablo import checkpoint

            model.load_state_dict(checkpoint.load(folder).model.state_dict())
        else:
            safetensors.torch.load_model(model, str(folder / WEIGHTS))
    except RuntimeError as error:
        raise CheckpointError(f"The model in {folder} isn't the one of this run: {error}") from None


def save(session: Session, watchers: Sequence[Any]) -> None:
    """Write a checkpoint of the step just made, on all ranks together."""
    trainer, run, step = session.trainer, session.run, session.trainer.done
    carried = run.steps / f"{TEMPORARY}carried-{step}-{session.ranks.rank}.safetensors"
    tensors = {f"{number:06d}": tensor.contiguous() for number, tensor in enumerate(tensors_of(trainer.carried))}
    if tensors:
        with storage_errors(carried), safetensors_errors():
            safetensors.torch.save_file(tensors, str(carried))
    session.ranks.wait()
    if session.ranks.first:
        session.sync()
        with run.writing(step) as folder:
            extra = trainer.pretext.modules()
            write_model(folder, trainer.model, session.tokenizer, *kept(trainer.pretext))
            if extra is not None:
                safetensors.torch.save_model(extra, str(folder / "pretext.safetensors"))
            memory = optimizer_tensors(trainer.optimizer, trainer.parameters)
            safetensors.torch.save_file(memory, str(folder / "optimizer.safetensors"))
            for rank in range(session.ranks.world if tensors else 0):
                source = carried.with_name(f"{TEMPORARY}carried-{step}-{rank}.safetensors")
                source.rename(folder / f"carried-{rank}.safetensors")
            (folder / "state.json").write_text(json.dumps(_describe(session, watchers), indent=1), encoding="utf-8")
    session.ranks.wait()


def restore(session: Session, watchers: Sequence[Any], step: int) -> None:
    """Put everything back as it was after ``step``."""
    trainer, folder = session.trainer, session.run.path(step)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'state.json'} can't be read: {error}") from None
    read_model(folder, trainer.model)
    if (extra := trainer.pretext.modules()) is not None:
        safetensors.torch.load_model(extra, str(folder / "pretext.safetensors"))
    memory = safetensors.torch.load_file(str(folder / "optimizer.safetensors"))
    restore_optimizer(trainer.optimizer, trainer.parameters, memory)
    trainer.done, trainer.total = state["step"], state["total"]
    trainer.stopped_by = state["stopped_by"]
    if (carried := folder / f"carried-{session.ranks.rank}.safetensors").exists():
        stored = safetensors.torch.load_file(str(carried), device=str(trainer.device))
        trainer.carried = _rebuild_carried(session, [stored[name] for name in sorted(stored)])
    session.seconds = state["seconds"]
    session.loss = float("nan") if state["loss"] is None else state["loss"]
    session.best = None if state["best"] is None else Best(**state["best"])
    names = watcher_names(watchers)
    for name, watcher in zip(names, watchers, strict=True):
        if name in state["watchers"]:
            watcher.restore(state["watchers"][name])
        elif watcher.state():
            raise TrainingError(
                f"The checkpoint has nothing for the watcher {name!r}: give the watchers of the first start."
            )


def checkpoint_bytes(trainer: Any) -> int:
    """Roughly what a checkpoint takes on the disk: parameters, and two numbers each for AdamW."""
    size = sum(parameter.nbytes for parameter in trainer.parameters.values())
    return size * (3 if trainer.settings.optimizer == "adamw" else 1) + (4 << 20)


def watcher_names(watchers: Sequence[Any]) -> list[str]:
    """A name for each watcher under which its memory is saved: its class, numbered when it comes again."""
    names: list[str] = []
    for watcher in watchers:
        name = type(watcher).__name__
        again = sum(other.split("-")[0] == name for other in names)
        names.append(f"{name}-{again + 1}" if again else name)
    return names


def _describe(session: Session, watchers: Sequence[Any]) -> Mapping[str, Any]:
    best = session.best
    memories = {name: watcher.state() for name, watcher in zip(watcher_names(watchers), watchers, strict=True)}
    return {
        "step": session.trainer.done,
        "total": session.total,
        "stopped_by": session.trainer.stopped_by,
        "seconds": session.seconds,
        "loss": session.loss if session.loss == session.loss else None,
        "best": None if best is None else asdict(best),
        "watchers": {name: memory for name, memory in memories.items() if memory},
    }


def _rebuild_carried(session: Session, tensors: list[Tensor]) -> list[Any]:
    """The carried states in the family's own structure, which a forward pass over the last step's batches shows."""
    trainer = session.trainer
    batches = trainer.pretext.micro_batches(trainer.done - 1, session.ranks.rank, session.ranks.world)
    with torch.no_grad(), trainer.precision():
        shapes = [trainer.pretext.terms(trainer.model, batch.to(trainer.device), None)[1] for batch in batches]
    if len(tensors_of(shapes)) != len(tensors):
        raise CheckpointError(f"The carried state of step {trainer.done} has {len(tensors)} tensors, not this model's.")
    return rebuild(shapes, iter(tensors))
