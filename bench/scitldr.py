"""SciTLDR: ROUGE of one-sentence summaries of papers, with and without denoising before, over seeds.

    python bench/scitldr.py --minutes 20 --tuning 20
    python bench/scitldr.py --minutes 0.1 --tuning 0.1 --seeds 1 --tests 20      # a trial

denoised        an encoder-decoder restores the training abstracts for ``--minutes`` (BART's noises), then learns the summaries
                for ``--tuning`` minutes
random          the same shape, tokenizer and seed without the first part
random, longer  the same with ``--minutes`` more of summaries: equal time

Figures are of the last step on the test set, greedy, as F1; of a paper's several summaries the one nearest counts, for each
measure, as in the data's paper (Cachola et al. 2020). Abstracts longer than ``--context`` are cut, which is told. Each finished
cell is a line of ``--cells``; a line stands for its settings, so other settings are other cells.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import vocablo
from _harness import HERE, SHARED, need, options, report
from vocablo.measures.rouge import rouge
from vocablo.views.terminal import table

STARTS = ("denoised", "random", "random, longer")
MEASURES = ("rouge-1", "rouge-2", "rouge-l")


@dataclass(frozen=True)
class Cell:
    """One run; ``key`` is what it is found by."""

    start: str
    seed: int
    size: str
    context: int
    vocab: int
    minutes: float
    tuning: float
    lr: float
    tests: int

    @property
    def key(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Files:
    """Abstracts, one a line; papers to learn from and held-out ones; the test's abstracts and their summaries."""

    text: Path
    train: Path
    dev: Path
    sources: Sequence[str]
    gold: Sequence[Sequence[str]]


def prepared(folder: Path, scratch: Path) -> Files:
    """The corpus as the verbs read it. A paper with several summaries is learnt once for each."""
    papers = {
        part: [
            (" ".join(" ".join(one["source"]).split()), [" ".join(summary.split()) for summary in one["target"]])
            for one in map(json.loads, need(folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines())
        ]
        for part in ("train", "dev", "test")
    }
    text = scratch / "abstracts.txt"
    text.write_text("".join(f"{source}\n" for source, _ in papers["train"]), encoding="utf-8")
    for part in ("train", "dev"):
        lines = [
            json.dumps({"abstract": source, "summary": summary}, ensure_ascii=False) + "\n"
            for source, summaries in papers[part]
            for summary in (summaries if part == "train" else summaries[:1])
        ]
        (scratch / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    sources, gold = zip(*papers["test"], strict=True)
    return Files(text, scratch / "train.jsonl", scratch / "dev.jsonl", sources, gold)


def started(cell: Cell, files: Files, folder: Path, *, tokenizer: Path | None = None) -> Path:
    """A model's folder: denoised, or (``tokenizer`` given) after one step too small to move a weight."""
    vocablo.pretrain(
        "bart", text=files.text, data={"documents": "line"}, size=cell.size, out=folder, quiet=True, tokenizer=tokenizer,
        minutes=cell.minutes if tokenizer is None else None, steps=None if tokenizer is None else 1,
        overrides=[
            f"context={cell.context}", f"train.seed={cell.seed}",
            *([f"tokenizer.vocab={cell.vocab}"] if tokenizer is None else ["train.lr=1e-12", "train.weight_decay=0"]),
        ],
    )  # fmt: skip
    return folder


def learn(cell: Cell, files: Files, model: Path) -> dict[str, Any]:
    """Make one run; the line of its cell."""
    begun, never = time.perf_counter(), 10**9
    minutes = cell.tuning + (cell.minutes if cell.start == STARTS[2] else 0)
    with tempfile.TemporaryDirectory() as scratch:
        result = vocablo.finetune(
            "summarize", model=model, train=files.train, dev=files.dev, out=Path(scratch) / "model", quiet=True,
            columns={"text": "abstract", "label": "summary"},
            overrides=[
                f"train.minutes={minutes}", f"train.seed={cell.seed}", f"train.lr={cell.lr}", "measure=loss",
                f"train.evaluate_every={never}", f"train.save_every={never}",
            ],
        )  # fmt: skip
        tests = slice(cell.tests or None)
        asked = vocablo.load(Path(scratch) / "model")
        written = [one.output for one in asked.summarize(list(files.sources[tests]), max_tokens=64)]
    scores = nearest(files.gold[tests], written)
    seconds = round(time.perf_counter() - begun, 1)
    return {
        **asdict(cell),
        **scores,
        "steps": result.runs[0].steps,
        "parameters": result.parameters,
        "seconds": seconds,
    }


def nearest(gold: Sequence[Sequence[str]], written: Sequence[str]) -> dict[str, float]:
    """ROUGE x 100; of several references the one that gives the most."""
    pairs = [(one, text) for some, text in zip(gold, written, strict=True) for one in some]
    begins = np.cumsum([0, *map(len, gold)])[:-1]
    found = rouge([one for one, _ in pairs], [text for _, text in pairs])
    return {one.name: 100 * float(np.maximum.reduceat(one.rows[:, 0], begins).mean()) for one in found}


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


def shown(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED / "scitldr"), "folder of the corpus"), minutes=(10.0, "of denoising"),
        tuning=(10.0, "minutes of summaries"), seeds=(1, "runs of each start"), size=("mini", "of the model"),
        context=(320, "tokens that are read"), vocab=(8000, "tokens of the vocabulary"), lr=(5e-4, "rate of fine-tuning"),
        tests=(0, "papers of the test; 0: all"), cells=(str(HERE / "out" / "scitldr.jsonl"), "where finished cells stand"),
    )  # fmt: skip
    path = Path(chosen.cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (chosen.size, chosen.context, chosen.vocab, chosen.minutes, chosen.tuning, chosen.lr, chosen.tests)
    wanted = [Cell(start, seed, *shape) for seed in range(chosen.seeds) for start in STARTS]
    done = finished(path)
    with tempfile.TemporaryDirectory() as scratch:
        files = prepared(Path(chosen.data), Path(scratch))
        models: dict[tuple[int, bool], Path] = {}
        for cell in wanted:
            if cell.key in done:
                continue
            at = Path(scratch) / str(cell.seed)
            if (cell.seed, True) not in models:
                models[cell.seed, True] = started(cell, files, at / "denoised")
            denoised = cell.start == STARTS[0]
            if (cell.seed, denoised) not in models:
                models[cell.seed, False] = started(cell, files, at / "random", tokenizer=at / "denoised")
            line = done[cell.key] = learn(cell, files, models[cell.seed, denoised])
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            print(
                f"{cell.start}, seed {cell.seed}: ROUGE-L {line['rouge-l']:.1f} in {line['seconds']:.0f} s", flush=True
            )
    lines = []
    for start in STARTS:
        mine = [done[cell.key] for cell in wanted if cell.start == start]
        scores = [shown([one[name] for one in mine]) for name in MEASURES]
        lines.append((start, *scores, round(statistics.fmean(one["steps"] for one in mine)), len(mine)))
    result = {"cells": [done[cell.key] for cell in wanted]}
    report("scitldr", table(("start", *MEASURES, "steps", "seeds"), lines), result, chosen.out)


if __name__ == "__main__":
    main()
