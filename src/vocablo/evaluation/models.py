"""Evaluation of models: predict what a published test asks, by the official measures, as files of predictions are measured.

A model is the folder of a fine-tuned one, or for a suite of several tests a folder with one for each (``cola/``, ``rte/``).
A cell without data, or without a model, says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vocablo import checkpoint
from vocablo.base import config, registry
from vocablo.base.errors import ConfigError, VocabloError, nearest
from vocablo.base.progress import Progress
from vocablo.data import glue
from vocablo.data.parallel import two_files
from vocablo.evaluation.cells import SPLITS, Cell, existing
from vocablo.evaluation.files import PACKAGE, suites
from vocablo.evaluation.report import Evaluation, Report, compare
from vocablo.inference.finetuned import task_in
from vocablo.measures.paired import TESTS

NO_DATA, NO_MODEL, NO_LABELS = "no data", "no model", "no labels: predictions only"


@dataclass(frozen=True, slots=True)
class CellReport:
    """One test: what was measured, or (``absent``) why nothing was; ``out`` is the file of predictions that was written."""

    name: str
    model: str | None
    file: str | None
    report: Report | None
    absent: str | None = None
    out: str | None = None


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """A suite's tests of one model, and (``against``) of what it was compared with."""

    suite: str
    model: str
    split: str
    against: str | None
    cells: tuple[CellReport, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A cell with the suite's settings, its gold examples and where they come from."""

    cell: Cell
    room: Any
    settings: Any
    path: Path
    gold: Any


class Source(Protocol):
    """Where predictions come from: ``where`` names the model or file of a cell, ``answers`` are the suite's predictions."""

    def where(self, cell: Cell) -> Path | None: ...

    def answers(self, asked: Asked) -> Any: ...


@dataclass(frozen=True, slots=True)
class Models:
    """A fine-tuned model's folder, or a folder of several."""

    folder: Path
    quiet: bool

    def where(self, cell: Cell) -> Path | None:
        if (self.folder / "config.json").exists() or not cell.folder:
            return self.folder
        return next((path for path in sorted(self.folder.iterdir()) if _is_of(path, cell.folder)), None)

    def answers(self, asked: Asked) -> Any:
        path = self.where(asked.cell)
        assert path is not None
        loaded = checkpoint.load(str(path))
        found = task_in(loaded, str(path))
        if found is None or found[0] not in asked.cell.tasks:
            what = "isn't fine-tuned for a task" if found is None else f"is a model for {found[0]}"
            wanted = " or ".join(asked.cell.tasks)
            raise ConfigError(
                f"{path} {what}, and {asked.cell.name} needs one for {wanted}: vocablo finetune {wanted} makes it."
            )
        examples = list(asked.room.asked(asked.gold))
        with Progress(f"predict {asked.cell.name}", len(examples), "examples", quiet=self.quiet) as progress:
            made = found[1].predict(loaded.model, loaded.heads, examples, progress.advance)
        return asked.room.given(made, asked.settings)


@dataclass(frozen=True, slots=True)
class Files:
    """A file of predictions, or a folder of them, named as the server wants them."""

    place: Path

    def where(self, cell: Cell) -> Path | None:
        path = self.place / cell.submission if self.place.is_dir() else self.place
        return path if path.exists() else None

    def answers(self, asked: Asked) -> Any:
        path = self.where(asked.cell)
        assert path is not None
        return asked.room.read_predictions(path, asked.gold, asked.settings)


def evaluate(
    suite: str,
    model: str | Path,
    data: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    split: str = "dev",
    out: str | Path | None = None,
    against: str | Path | None = None,
    test: str = "bootstrap",
    seed: int = 0,
    quiet: bool = False,
) -> SuiteReport:
    """The official measures of a model on the tests of a suite, one cell each.

    ``data`` is the set's folder, as it is published, or the file of one test. ``options`` are the suite's (``task`` of glue
    chooses one test), ``out`` is where predictions are written in the official format: a folder, or the file of one test.
    ``against`` is another model, or predictions, for the paired test. Raises ConfigError for what doesn't fit together and
    DataError for data that can't be read, before anything is predicted.
    """
    if suite not in suites():
        raise ConfigError(f"There is no suite {suite!r}{nearest(suite, suites())}")
    for value, known, what in ((split, SPLITS, "split"), (test, TESTS, "paired test")):
        if value not in known:
            raise ConfigError(f"There is no {what} {value!r}{nearest(value, known)}")
    room = registry.load(PACKAGE, suite)
    cells = _cells(suite, room, existing(data), split, options or {})
    if len({cell.folder for cell in cells}) > 1 and (Path(model) / "config.json").exists():
        raise ConfigError(f"{model} is one model, of which task of {suite}? Name it, as in evaluate glue cola.")
    first = _source(model, len(cells) > 1, quiet)
    second = None if against is None else _source(against, len(cells) > 1, quiet)
    found = [_asked(room, cell, split, options or {}, first) for cell in cells]
    if not any(isinstance(one, Asked) for one in found):
        reasons = {one.absent for one in found if isinstance(one, CellReport)}
        raise ConfigError(f"Nothing to evaluate: {' and '.join(sorted(map(str, reasons)))} in {data} for {model}.")
    if second is not None:
        _check_other(found, second)
    rows = tuple(
        one if isinstance(one, CellReport) else _measured(one, first, second, _out(out, one.cell, len(cells)), test, seed)
        for one in found
    )  # fmt: skip
    return SuiteReport(suite, str(model), split, None if against is None else str(against), rows)


def measured(asked: Asked, source: Source, out: Path | None = None) -> Evaluation | None:
    """Predict and measure one cell; None where no labels are known. ``out``: where the predictions are written."""
    answers = source.answers(asked)
    if out is not None:
        asked.room.write(out, asked.gold, answers, asked.settings)
    return asked.room.evaluate(asked.gold, answers, asked.settings) if asked.room.labelled(asked.gold) else None


def read_cell(suite: str, cell: Cell, split: str, options: Mapping[str, Any]) -> Asked | None:
    """The gold examples of a cell's split; None where the data isn't there."""
    room = registry.load(PACKAGE, suite)
    path = cell.files.get(split)
    if path is None:
        return None
    settings = config.build(room.Options, {**options, **cell.options}, suite)
    return Asked(cell, room, settings, path, room.read(path, settings))


def _cells(suite: str, room: Any, data: Path, split: str, options: Mapping[str, Any]) -> list[Cell]:
    cells = list(room.cells(data))
    if task := options.get("task"):
        config.build(room.Options, dict(options), suite)
        key = next(key for key, one in glue.TASKS.items() if one is glue.task(str(task)))
        cells = [cell for cell in cells if cell.options.get("task") == key]
    if data.is_file() or two_files(str(data)) is not None:
        if len({cell.folder for cell in cells}) > 1:
            raise ConfigError(f"{data} is one file: of which task of {suite}? Name it, as in evaluate glue cola.")
        cells = [cells[0].at({split: data})]
    return cells


def _source(place: str | Path, several: bool, quiet: bool) -> Source:
    path = Path(place)
    if not path.exists():
        raise ConfigError(f"There is no model and no file of predictions {path}.")
    if path.is_file():
        if several:
            raise ConfigError(f"{path} is one file, of which test? Name the task, as in evaluate glue cola.")
        return Files(path)
    inside = [path, *(one for one in path.iterdir() if one.is_dir())]
    return Models(path, quiet) if any((one / "config.json").exists() for one in inside) else Files(path)


def _asked(room: Any, cell: Cell, split: str, options: Mapping[str, Any], source: Source) -> Asked | CellReport:
    path, place = cell.files.get(split), source.where(cell)
    if path is None or place is None:
        absent = NO_DATA if path is None else NO_MODEL
        return CellReport(cell.name, None if place is None else str(place), None, None, absent)
    suite = room.__name__.rsplit(".", 1)[1]
    asked = read_cell(suite, cell, split, options)
    assert asked is not None
    return asked


def _check_other(found: list[Asked | CellReport], second: Source) -> None:
    for one in found:
        if isinstance(one, Asked) and one.room.labelled(one.gold) and second.where(one.cell) is None:
            raise ConfigError(
                f"--against has nothing of {one.cell.name} to compare with: leave it out, or name the task."
            )


def _measured(asked: Asked, first: Source, second: Source | None, out: Path | None, test: str, seed: int) -> CellReport:
    one = measured(asked, first, out)
    report = None
    if one is not None:
        other = None if second is None else measured(asked, second)
        comparison = () if other is None else compare(one, other, test, seed=seed)
        report = one.report(seed=seed, comparison=comparison)
    place = first.where(asked.cell)
    absent = NO_LABELS if report is None else None
    written = None if out is None else str(out)
    return CellReport(asked.cell.name, str(place), str(asked.path), report, absent, written)


def _out(out: str | Path | None, cell: Cell, cells: int) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if cells == 1 and path.suffix == Path(cell.submission).suffix:
        return path
    path.mkdir(parents=True, exist_ok=True)
    return path / cell.submission


def _is_of(path: Path, folder: str) -> bool:
    """Whether a folder is that of a task's model, in any spelling of its name."""
    if not (path / "config.json").exists():
        return False
    try:
        return glue.task(path.name) is glue.TASKS[folder]
    except (VocabloError, KeyError):
        return False
