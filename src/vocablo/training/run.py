"""The run folder: what a training run leaves on the disk, and how a later process finds its way in.

    OUT/                     the finished model, in the checkpoint layout
    OUT/run/recipe.toml      the resolved settings
    OUT/run/state.json       the number of steps, what identifies the run, how it ended
    OUT/run/metrics.jsonl    a line for each step and each evaluation
    OUT/run/steps/step-00001000/   a checkpoint: model, optimizer.safetensors, carried-*.safetensors, state.json, sums.json

A checkpoint is written under a temporary name, flushed and renamed, so a killed process leaves whole ones only.
``sums.json`` has the size and CRC of every file: a checkpoint that a disk has damaged is recognised, set aside with a
warning, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from vocablo.base.config import read_toml, to_toml
from vocablo.base.errors import CheckpointError, TrainingError, VocabloError
from vocablo.base.files import TEMPORARY, replacing, storage_errors, sweep, write_text
from vocablo.training.ranks import Ranks

SUMS = "sums.json"
DAMAGED = "damaged-"
RESUME = "give the same command with --resume to go on"


class Interrupted(VocabloError):
    """A signal stopped the run after a whole step, which is saved. ``exit_code`` is the conventional one."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class RunFolder:
    """One run's folder. Make it with ``create`` for a new run or ``open`` to go on with one; ``close`` it in the end.

    Both take a lock that lasts as long as the process, so that two processes never write to one run.
    """

    def __init__(self, out: Path, writes: bool | None = None) -> None:
        self.out = Path(out)
        self.folder = self.out / "run"
        self.steps = self.folder / "steps"
        self.metrics = self.folder / "metrics.jsonl"
        self._lock: IO[str] | None = None
        if _first(writes):
            with storage_errors(self.folder):
                self.steps.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            sweep(self.steps)
            sweep(self.folder)
            sweep(self.out)

    @classmethod
    def create(
        cls,
        out: Path,
        recipe: Mapping[str, Any],
        origin: Mapping[str, str] | None = None,
        *,
        writes: bool | None = None,
    ) -> RunFolder:
        """The folder of a new run. Raises TrainingError when ``out`` holds a run, a model or anything else.

        ``origin`` says where each value of the recipe came from; ``writes`` None lets only the first rank write.
        """
        out, writes = Path(out), _first(writes)
        if writes:
            require_free(out)
        run = cls(out, writes)
        if writes:
            write_text(run.folder / "recipe.toml", to_toml(recipe, origin))
        return run

    @classmethod
    def open(cls, out: Path, *, writes: bool | None = None) -> RunFolder:
        """The folder of an earlier run. Raises TrainingError when there is none."""
        if not holds_run(Path(out)):
            raise TrainingError(f"{out} holds no run to resume: start one without --resume.")
        return cls(out, writes)

    def close(self) -> None:
        """Let another process have the run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe that the run was started with."""
        return read_toml(self.folder / "recipe.toml")

    def read_state(self) -> dict[str, Any]:
        """The run's ``state.json``; empty when the run was killed before it was written."""
        path = self.folder / "state.json"
        if not path.exists():
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} can't be read ({error}): the run can't be resumed.") from None

    def write_state(self, **changes: Any) -> None:
        """Change entries of ``state.json``."""
        write_text(self.folder / "state.json", json.dumps(self.read_state() | changes, indent=1) + "\n")

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints, oldest first; damaged ones are noticed only when they are read."""
        found = [re.fullmatch(r"step-(\d{8,})", path.name) for path in self.steps.glob("step-*")]
        return sorted(int(match.group(1)) for match in found if match)

    def path(self, step: int) -> Path:
        return self.steps / f"step-{step:08d}"

    @contextlib.contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """An empty folder to write checkpoint ``step`` into; whole or absent afterwards."""
        with replacing(self.path(step)) as temporary, safetensors_errors():
            temporary.mkdir()
            yield temporary
            (temporary / SUMS).write_text(json.dumps(_sums(temporary)), encoding="utf-8")

    def prune(self, keep: int, best: int | None) -> None:
        """Remove all checkpoints but the newest ``keep`` and the best one."""
        for step in self.checkpoints()[:-keep]:
            if step != best:
                gone = self.steps / f"{TEMPORARY}{os.getpid()}-gone-{step}"
                self.path(step).rename(gone)  # a removal that is cut short must not leave half a checkpoint
                shutil.rmtree(gone, ignore_errors=True)

    def newest(self) -> int | None:
        """The newest undamaged checkpoint, None when there is none at all. Damaged ones are set aside with a warning.

        Raises CheckpointError when every checkpoint is damaged.
        """
        steps = self.checkpoints()
        for step in reversed(steps):
            fault = find_damage(self.path(step))
            if fault is None:
                return step
            aside = self.steps / f"{DAMAGED}{self.path(step).name}"
            shutil.rmtree(aside, ignore_errors=True)
            self.path(step).rename(aside)
            warnings.warn(
                f"The checkpoint of step {step} is damaged ({fault}); it was renamed to {aside.name}, and the one before "
                "it is used.",
                stacklevel=2,
            )
        if steps:
            raise CheckpointError(f"All checkpoints in {self.steps} are damaged: start again in another folder.")
        return None

    def truncate_metrics(self, step: int) -> None:
        """Drop the metrics of steps after ``step``, and a line that was cut short."""
        if self.metrics.exists():
            kept = [
                json.dumps(line, ensure_ascii=False) + "\n"
                for line in read_metrics(self.metrics)
                if line["step"] <= step
            ]
            write_text(self.metrics, "".join(kept))

    def finish(self, checkpoint: Path) -> None:
        """Copy a checkpoint's model files (not the optimizer's and the run's) beside ``run/``, ``config.json`` last."""
        ours = ("optimizer.safetensors", "pretext.safetensors", "state.json", SUMS)
        files = [
            path for path in checkpoint.iterdir() if path.name not in ours and not path.name.startswith("carried-")
        ]
        for path in sorted(files, key=lambda path: path.name == "config.json"):
            with replacing(self.out / path.name) as temporary:
                shutil.copyfile(path, temporary)

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not a POSIX system: no lock
            return
        with storage_errors(self.folder):
            self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise TrainingError(
                f"Another process is training in {self.out}: wait for it or choose another folder."
            ) from None


def holds_run(out: Path) -> bool:
    """Whether a run was begun in ``out``."""
    return (out / "run" / "recipe.toml").exists()


def require_free(out: Path) -> None:
    """Raise TrainingError when ``out`` holds a run, a model or anything else, so that nothing is ever mixed."""
    if not out.exists():
        return
    if not out.is_dir():
        raise TrainingError(f"{out} is a file: choose another folder.")
    state = out / "run" / "state.json"
    if state.exists():
        finished = '"finished"' in state.read_text(encoding="utf-8", errors="replace")
        raise TrainingError(
            f"{out} already holds a finished run: choose another folder."
            if finished
            else f"{out} already holds a run: {RESUME}, or choose another folder."
        )
    others = [path.name for path in out.iterdir() if path.name != "run" and not path.name.startswith(TEMPORARY)]
    if others:
        raise TrainingError(
            f"{out} already holds other files ({', '.join(sorted(others)[:3])}): choose an empty or new folder."
        )


def _first(writes: bool | None) -> bool:
    return Ranks.current().first if writes is None else writes


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; one that a killed process left unfinished is skipped."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def find_damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None: sizes and CRCs against ``sums.json``."""
    try:
        expected = json.loads((checkpoint / SUMS).read_text(encoding="utf-8"))
        found = _sums(checkpoint)
        for name, sums in expected.items():
            if name not in found:
                return f"{name} is missing"
            if found[name] != sums:
                return f"{name} is not what was written"
    except (OSError, ValueError, AttributeError):
        return f"{SUMS} can't be read"
    return None


@contextlib.contextmanager
def safetensors_errors() -> Iterator[None]:
    """safetensors reports the system's errors in words of its own; give them back their number."""
    try:
        yield
    except SafetensorError as error:
        if (match := re.search(r"os error (\d+)", str(error))) is None:
            raise
        number = int(match.group(1))
        raise OSError(number, os.strerror(number)) from error


def _sums(folder: Path) -> dict[str, list[int]]:
    result = {}
    for path in sorted(folder.iterdir()):
        if path.name == SUMS or not path.is_file():
            continue
        crc = 0
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                crc = zlib.crc32(chunk, crc)
        result[path.name] = [path.stat().st_size, crc]
    return result
