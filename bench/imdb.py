"""Sentiment of whole film reviews (IMDB, Maas et al. 2011), from random weights: HAN, BiLSTM with attention and mean, bag of vectors.

    python bench/imdb.py                              # the official split, 25,000 + 25,000; killed, it goes on with the cells that lack
    python bench/imdb.py --train 600 --test 300 --epochs 4 --only han,bag

``imdb.tar.xz`` (or a folder ``imdb`` with train.jsonl and test.jsonl) lies in ``--data``. A tenth of the training reviews, drawn
by lot, chooses the epoch; the test reviews choose nothing. All read the same words: those of the training reviews in lower
case, seen five times at least, all others unknown; line breaks of the page end sentences. All have word vectors of 200 numbers
and 100 numbers for a text (the bag 200), one layer, the same rate and dropout. ``--vectors`` begins with vectors of words from
a file (word2vec's, GloVe's, a folder of ours). LSTMs read the first ``--context`` words; HAN reads all.

HN-AVE and HN-MAX are the paper's ablations, mean and max in the place of both attentions (its own IMDB has ten classes, so its
figures, HN-AVE 47.8, HN-MAX 48.2, HN-ATT 49.4, are no references for these). Each finished cell is a line of ``--cells``.
"""

from __future__ import annotations

import json
import re
import statistics
import tarfile
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import vocablo
from _harness import HERE, SHARED, need, options, report
from vocablo import api
from vocablo.measures.classification import accuracy
from vocablo.views.document import document_text
from vocablo.views.terminal import table

MODELS: dict[str, tuple[str, str, tuple[str, ...]]] = {  # name -> what it is called, its start, changes
    "han": ("HAN", "han:base", ()),
    "han-mean": ("HN-AVE", "han:base", ("architecture.stack.pooling=mean",)),
    "han-max": ("HN-MAX", "han:base", ("architecture.stack.pooling=max",)),
    "attention": ("BiLSTM, attention", "bilstm:tiny", ("read.pooling=attention", "architecture.embed.width=200", "architecture.stack.width=50")),
    "mean": ("BiLSTM, mean", "bilstm:tiny", ("read.pooling=mean", "architecture.embed.width=200", "architecture.stack.width=50")),
    "bag": ("bag of vectors", "bilstm:tiny", ("read.pooling=mean", "architecture.embed.width=200", "architecture.stack.layers=0")),
}  # fmt: skip
SHOWN = 3  # reviews whose attended words are printed
LENGTHS = (30, 90)  # words of these


@dataclass(frozen=True)
class Cell:
    """One run; a line of the file of cells has these and what came out."""

    model: str
    seed: int
    train: int  # reviews, those held out among them
    test: int
    epochs: int
    batch: int
    lr: float
    dropout: float
    context: int  # words of a review that are read; 0: all
    vectors: str

    @property
    def key(self) -> str:
        return json.dumps(asdict(self))


def unpacked(data: Path, scratch: Path) -> Path:
    """The folder with train.jsonl and test.jsonl."""
    folder = data / "imdb"
    if (folder / "train.jsonl").exists() and (folder / "test.jsonl").exists():
        return folder
    with tarfile.open(need(data / "imdb.tar.xz")) as packed:
        wanted = [one for one in packed.getmembers() if Path(one.name).name in ("train.jsonl", "test.jsonl")]
        packed.extractall(scratch, wanted, filter="data")
    return scratch / Path(wanted[0].name).parent


def lines_of(path: Path) -> list[str]:
    """The lines of a JSONL file; a review may have other characters that end a line."""
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def parts(folder: Path, scratch: Path, train: int, test: int) -> dict[str, Path]:
    """Files of training, held-out and test reviews; 0 takes all of a split, less is drawn by lot."""
    made = {}
    for split, count in (("train", train), ("test", test)):
        lines = lines_of(folder / f"{split}.jsonl")
        order = np.random.default_rng(0).permutation(len(lines))[: count or None]
        rows = [json.loads(lines[i]) for i in order]
        rows = [
            {
                "id": f"{row['label']}-{row['id']}",
                "text": re.sub(r"<br\s*/?>", "\n", row["text"]),
                "label": row["label"],
            }
            for row in rows
        ]
        held = len(rows) // 10 if split == "train" else 0
        for name, some in ((split, rows[held:]), ("dev", rows[:held])):
            if some:
                made[name] = scratch / f"{name}.jsonl"
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
                made[name].write_text(text, encoding="utf-8")
    return made


def learn(cell: Cell, files: dict[str, Path], tokenizer: Path, scratch: Path) -> dict[str, Any]:
    """Make one run and read the test reviews with it; the line of its cell."""
    _, start, changes = MODELS[cell.model]
    out = scratch / f"{cell.model}-{cell.seed}"
    overrides = [
        f"train.seed={cell.seed}", f"train.epochs={cell.epochs}", f"train.batch={cell.batch}", f"train.lr={cell.lr}",
        f"read.dropout={cell.dropout}", f"architecture.stack.dropout={cell.dropout}", *changes,
        *([f"read.context={cell.context}"] if cell.context else []),
        *([f"architecture.embed.vectors={cell.vectors}"] if cell.vectors else []),
    ]  # fmt: skip
    result = vocablo.finetune(
        "classify", model=start, train=files["train"], dev=files["dev"], out=out, tokenizer=tokenizer,
        columns={"id": "id"}, overrides=overrides, quiet=True,
    )  # fmt: skip
    asked: Any = api.load(out)
    gold = [json.loads(line)["label"] for line in lines_of(files["test"])]
    begun = time.perf_counter()
    found = asked.predict_file(files["test"], columns={"id": "id"})
    reading = time.perf_counter() - begun
    score = accuracy(gold, [one.label for one in found]).score()
    assert score.interval is not None
    return {
        **asdict(cell), "accuracy": 100 * score.value, "interval": [100 * score.interval.low, 100 * score.interval.high],
        "dev accuracy": 100 * float(result.runs[0].measures["accuracy"]), "best step": result.runs[0].best_step,
        "steps": result.runs[0].steps, "parameters": result.parameters, "seconds": round(result.runs[0].seconds, 1),
        "test seconds": round(reading, 1), "cut": sum(one.cut for one in found),
        "shown": shown(asked, found, gold) if "attend" in asked.verbs else [],
    }  # fmt: skip


def shown(asked: Any, found: list[Any], gold: list[str]) -> list[str]:
    """Short reviews with their attended words: the first two that are told rightly, and the first that isn't."""
    short = [i for i, one in enumerate(found) if LENGTHS[0] <= len(one.text.split()) <= LENGTHS[1]]
    right = [i for i in short if found[i].label == gold[i]]
    wrong = [i for i in short if found[i].label != gold[i]]
    texts = []
    for i in [*right[: SHOWN - 1], *wrong[:1]]:
        drawn = document_text(asked.attend(found[i].text).passages, colour=False)
        texts.append(f"{found[i].id}: told {found[i].label} ({found[i].prob:.3f})\n{drawn}")
    return texts


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


def rows_of(lines: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Mean and deviation over seeds of every model; the interval is that of a single run."""
    together: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in lines:
        together[one["model"]].append(one)
    rows = []
    for name, some in together.items():
        values = [one["accuracy"] for one in some]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        low, high = some[0]["interval"]
        interval = f"{low:.1f} to {high:.1f}" if len(values) == 1 else ""
        seconds = statistics.fmean(one["seconds"] for one in some)
        dev = statistics.fmean(one["dev accuracy"] for one in some)
        tests = statistics.fmean(one["test seconds"] for one in some)
        rows.append((MODELS[name][0], f"{statistics.fmean(values):.2f}{spread}", interval, f"{dev:.1f}", some[0]["parameters"], f"{seconds:.0f}", f"{tests:.0f}", len(some)))  # fmt: skip
    return rows


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), only=(",".join(MODELS), "which models"), seeds=(1, "runs of each"),
        train=(0, "training reviews; 0: all"), test=(0, "test reviews; 0: all"), epochs=(5, "epochs"), batch=(32, "reviews of a step"),
        lr=(1e-3, "rate"), dropout=(0.3, "dropout"), context=(500, "words that LSTMs read; 0: all"), vectors=("", "vectors of words"),
        cells=(str(HERE / "out" / "imdb.jsonl"), "where finished cells stand"),
    )  # fmt: skip
    names = chosen.only.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise SystemExit(f"There is no model {unknown[0]!r} here. Known: {', '.join(MODELS)}")
    path = Path(chosen.cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        files = parts(unpacked(Path(chosen.data), scratch), scratch, chosen.train, chosen.test)
        api.train_tokenizer(files["train"], scratch / "words", kind="word", min_count=5, lowercase=True, column="text")
        wanted = [
            Cell(name, seed, chosen.train, chosen.test, chosen.epochs, chosen.batch, chosen.lr, chosen.dropout,
                 0 if name.startswith("han") else chosen.context, chosen.vectors)
            for seed in range(chosen.seeds) for name in names
        ]  # fmt: skip
        done = finished(path)
        for cell in wanted:
            if cell.key in done:
                continue
            line = done[cell.key] = learn(cell, files, scratch / "words", scratch)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            print(f"{MODELS[cell.model][0]}, seed {cell.seed}: accuracy {line['accuracy']:.2f} in {line['seconds']:.0f} s", flush=True)  # fmt: skip
    lines = [done[cell.key] for cell in wanted]
    header = ("model", "test accuracy", "95 % interval", "held-out", "parameters", "training s", "reading s", "seeds")
    texts = next((one["shown"] for one in lines if one["shown"]), [])
    told = "\n\n".join([table(header, rows_of(lines)), *texts])
    report("imdb", told, {"cells": lines}, chosen.out)


if __name__ == "__main__":
    main()
