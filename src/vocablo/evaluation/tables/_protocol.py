"""What the tables share: what is asked, their records, and cells that are fine-tuned, measured, kept, and not run again.

Each table's file has, as literals, ``TITLE``, ``SOURCE`` (where the published figures are from), ``LEAD`` and ``COLUMNS`` (the
names of the columns of facts, and of figures), ``PUBLISHED`` (a line each: name, facts, figures; None where the paper has
none), ``ABOUT`` (what the published figures are of), ``ASKS`` (what is compared: ``models``, or ``sizes`` that it
pre-trains) and ``SEVERAL`` (whether it measures several tasks, each with files of its own); and ``ours(runner) -> rows``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocablo import checkpoint
from vocablo.base import files, registry
from vocablo.base.errors import ConfigError
from vocablo.base.progress import tell
from vocablo.base.results import as_json
from vocablo.evaluation import models
from vocablo.evaluation.cells import SPLITS, Cell, existing
from vocablo.evaluation.files import PACKAGE as SUITES
from vocablo.training import finetune, finetune_recipe

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a table is asked for: which models (or sizes, to be pre-trained on ``text``), on which data, at what budget.

    ``files`` are the splits' files where they aren't those of ``data``; ``articles``: of SQuAD, learn from so many articles
    of the development set and measure on the others. ``overrides`` are ``finetune``'s, ``pretraining`` those of ``pretrain``.
    """

    data: Path
    out: Path
    models: tuple[str, ...] = ()
    seeds: int = 1
    fraction: float = 1.0
    steps: int | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    articles: int | None = None
    sizes: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    documents: str | None = None
    pretrain_steps: int | None = None
    overrides: tuple[str, ...] = ()
    pretraining: tuple[str, ...] = ()
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """One figure, in the unit that papers print (times 100, or a perplexity): the mean over seeds and their deviation.

    ``low`` and ``high`` are the 95 % interval over examples, of a single seed; ``absent`` says why there is no figure.
    """

    value: float | None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    examples: int | None = None
    seeds: int = 1
    absent: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A line: its system, its facts (sizes, say) and its figures."""

    system: str
    facts: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the published lines, ours, and in what they differ."""

    number: int
    title: str
    source: str
    lead: tuple[str, ...]
    columns: tuple[str, ...]
    published: tuple[Row, ...]
    ours: tuple[Row, ...]
    differs: tuple[str, ...]

    def _repr_html_(self) -> str:
        from vocablo.views.papers import as_html

        return as_html(self)


def absent(why: str) -> Value:
    """A cell without a figure."""
    return Value(None, absent=why)


class Runner:
    """Makes the cells of one table; what is finished stands in ``out/cells`` and isn't made again."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.notes: list[str] = []
        self.sizes: dict[str, int] = {}  # parameters of each model

    def cells(self, suite: str) -> tuple[Cell, ...]:
        """The cells of a suite with the files that were asked for."""
        found = registry.load(SUITES, suite).cells(existing(self.ask.data))
        if not self.ask.files:
            return found
        return tuple(cell.at({**cell.files, **self.ask.files}) for cell in found)

    def note(self, text: str) -> None:
        """Something in which ours differs, said once."""
        if text not in self.notes:
            self.notes.append(text)

    def tuned(
        self,
        suite: str,
        cell: Cell,
        model: str,
        *,
        usual: Sequence[str] = (),
        features: str | None = None,
        splits: Sequence[str] = ("dev",),
    ) -> Record | None:
        """Fine-tune a model on a cell, as often as there are seeds, and measure each: split -> measure -> values.

        ``usual`` are the paper's settings for weights that are pre-trained; those asked for win. None: no data.
        """
        if "train" not in cell.files or not any(split in cell.files for split in splits):
            return None
        ask = self.ask
        task = cell.tasks[0]
        pretrained = finetune_recipe.fresh(model) is None or Path(model).exists()
        kind = cell.folder or cell.name.lower().replace(" ", "-")
        name = f"{Path(model).name.replace(':', '-')}/{'-'.join(filter(None, (kind, features)))}"
        asked = {
            "model": model, "files": {split: str(path) for split, path in cell.files.items()}, "seeds": ask.seeds,
            "fraction": ask.fraction, "steps": ask.steps, "features": features,
            "overrides": [*(usual if pretrained and features is None else ()), *ask.overrides],
        }  # fmt: skip
        found = self.kept(name, asked, lambda folder: self._tune(suite, cell, task, splits, asked, folder))
        self.sizes.setdefault(model, found["parameters"])
        return found

    def kept(self, name: str, asked: Record, make: Any) -> Record:
        """What ``make(folder)`` gave for this cell, now or in an earlier run of the same command."""
        path = self.ask.out / "cells" / f"{name}.json"
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["asked"] != asked:
                changed = sorted(key for key in asked if known["asked"].get(key) != asked[key])
                raise ConfigError(f"{path} was made with other {', '.join(changed)}: take another --out, or delete it.")
            return known["found"]
        if not self.ask.quiet:
            tell(f"{name} ...")
        found = make(self.ask.out / "models" / name)
        files.write_text(
            path, json.dumps(as_json({"asked": asked, "found": found}), ensure_ascii=False, indent=1) + "\n"
        )
        return json.loads(path.read_text(encoding="utf-8"))["found"]

    def _tune(self, suite: str, cell: Cell, task: str, splits: Sequence[str], asked: Record, folder: Path) -> Record:
        ask = self.ask
        given = {
            "model": asked["model"],
            "data": {
                "train": str(cell.files["train"]),
                "dev": str(cell.files["dev"]) if "dev" in cell.files else None,
                "fraction": ask.fraction if ask.fraction < 1 else None,
            },
            "columns": dict(cell.columns),
            "read": {"features": asked["features"]},
            "train": {"steps": ask.steps},
        }
        recipe, origin = finetune_recipe.resolve(task, given=given, overrides=asked["overrides"])
        order = finetune.Order(folder, tuple(range(ask.seeds)), resume=True, quiet=ask.quiet)
        result = finetune.run(recipe, origin, order)
        config = checkpoint.load(result.runs[0].out).model.config
        layers = getattr(getattr(config, "stack", None), "layers", 1)
        found: Record = {"parameters": result.parameters, "layers": layers, "learnt from": result.examples}
        for split in splits:
            read = models.read_cell(suite, cell, split, {})
            if read is None or not read.room.labelled(read.gold):
                continue
            scores: dict[str, list[Any]] = {}
            for run in result.runs:
                measured = models.measured(read, models.Models(Path(run.out), ask.quiet))
                assert measured is not None
                for one in measured.measurements:
                    scores.setdefault(one.name, []).append(asdict(one.score()))
            found[split] = scores
        if len(result.runs) > 1:  # the best one's is in the cell's own folder
            for run in result.runs:
                (Path(run.out) / "model.safetensors").unlink(missing_ok=True)
        return found


def value(found: Record | None, split: str, measure: str) -> Value:
    """The figure of a measure, times 100."""
    if found is None:
        return absent(models.NO_DATA)
    if split not in found:
        return absent("no data")
    scores = found[split][measure]
    values = [100 * one["value"] for one in scores if one["value"] is not None]
    if not values:
        return absent("not defined")
    interval = scores[0]["interval"] if len(scores) == 1 else None
    return Value(
        statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None,
        None if interval is None else 100 * interval["low"],
        None if interval is None else 100 * interval["high"],
        scores[0]["count"],
        len(values),
    )


def check(ask: Ask) -> None:
    """Raise ConfigError for what can be known before work starts."""
    if ask.seeds < 1:
        raise ConfigError(f"--seeds is one or more; got {ask.seeds}.")
    if not 0 < ask.fraction <= 1:
        raise ConfigError(f"--fraction is a share of the training examples, over 0 and up to 1; got {ask.fraction}.")
    if stray := [split for split in ask.files if split not in SPLITS]:
        raise ConfigError(f"There is no split {stray[0]!r}.")
    for path in ask.files.values():
        existing(path)
