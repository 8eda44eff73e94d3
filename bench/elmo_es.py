"""ELMo on Spanish novels and film dialogue, and what its vectors are worth: perplexity, senses of words, entities.

    python bench/elmo_es.py --minutes 60 --work DIR

ELMo is pre-trained on 95 of 100 novels of 1840-1920 and on 19 of 20 files of film and television dialogue; the others are held
out. Then: perplexities of both directions, and the words of ``evaluate senses`` told apart by each of its layers, beside vectors
of its words without context. CoNLL-2002's Spanish entities are tagged by a BiLSTM-CRF three times: on word vectors of its own
from random weights, on ELMo's letters alone (layer 0), and on all of its layers, mixed. ``--work`` keeps the models: what is
there already isn't trained again, and what was interrupted goes on.
"""

from __future__ import annotations

import json
import math
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import vocablo
from _harness import SHARED, need, options, report
from vocablo import api
from vocablo.evaluation import senses
from vocablo.training.run import holds_run
from vocablo.views.terminal import table

CONTEXT, BATCH = 64, 64
CORPORA = (("eltec_spa", ""), ("activ_es", "plain"))


def texts(data: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of both corpora to train on, and every twentieth of each."""
    train: list[Path] = []
    held_out: list[Path] = []
    for name, under in CORPORA:
        with tarfile.open(need(data / f"{name}.tar.xz")) as archive:
            archive.extractall(folder, filter="data")
        found = sorted((folder / name / under).rglob("*"))
        files = [path for path in found if path.suffix in (".txt", ".run") and path.stat().st_size > 4000]
        train += [path for place, path in enumerate(files) if place % 20]
        held_out += files[::20]
    return train, held_out


def trained(out: Path, train: Sequence[Path], held_out: Sequence[Path], chosen: Any) -> None:
    """Pre-train, unless it was done. The text lies in the same place each time, or a run couldn't be gone on with."""
    if not (out / "model.safetensors").exists():
        overrides = [
            f"context={CONTEXT}",
            f"train.batch={BATCH}",
            "tokenizer.min_count=2",
            f"model.head.words={chosen.words}",
            "train.evaluate_batches=40",
        ]
        data = {"validation_text": [str(path) for path in held_out]}
        resume = holds_run(out)
        vocablo.pretrain(
            "elmo", size=chosen.size, text=list(train), data=data, out=out, minutes=chosen.minutes, overrides=overrides,
            resume=resume,
        )  # fmt: skip


def curve(out: Path) -> list[dict[str, float]]:
    """The evaluations of a run: minutes of training, and the perplexity of each direction."""
    seconds, found = 0.0, []
    for line in (out / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        seconds += row.get("seconds", 0.0)
        if "validation_loss_forward" in row:
            losses = {name: math.exp(row[f"validation_loss_{name}"]) for name in ("forward", "backward")}
            found.append({"step": row["step"], "minutes": seconds / 60, **losses})
    return found


def tagged(name: str, model: str | Path, chosen: Any, **settings: Any) -> dict[str, Any]:
    """A BiLSTM-CRF on CoNLL-2002's Spanish training set, measured by conlleval on its two others."""
    data, out = Path(chosen.data) / "conll2002_es", Path(chosen.work) / f"ner-{name}"
    overrides = [
        "task.crf=true",
        f"train.epochs={chosen.epochs}",
        "train.batch=32",
        "train.lr=2e-3",
        "read.dropout=0.5",
    ]
    if "features" in settings:
        overrides += ["read.lstm_width=128", "read.lstm_layers=1"]
    overrides += settings.pop("overrides", ())
    if not (out / "model.safetensors").exists():
        api.finetune(
            "tag", model=model, train=need(data / "esp.train"), dev=data / "esp.testa", out=out, overrides=overrides,
            resume=holds_run(out), **settings,
        )  # fmt: skip
    found: dict[str, Any] = {"tagger": name}
    for split, file in (("dev", "esp.testa"), ("test", "esp.testb")):
        measured = api.evaluate_model("ner", out, data / file, split=split, quiet=True).cells[0].report
        scores = {one.name: one.value for one in measured.scores}
        found[f"{split} F1"] = 100 * scores["f1"]
    return found


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), minutes=(60.0, "of pre-training"), size=("small", "of ELMo"),
        words=(8000, "that its softmax tells"), epochs=(8, "of the taggers"), work=("", "keep the models here"),
    )  # fmt: skip
    with ExitStack() as stack:
        chosen.work = chosen.work or stack.enter_context(tempfile.TemporaryDirectory())
        out = Path(chosen.work) / "elmo"
        trained(out, *texts(Path(chosen.data), Path(chosen.work) / "text"), chosen)
        steps = curve(out)
        told = senses.evaluate(api.load(out))
        taggers = [
            tagged("random", "bilstm:tiny", chosen, overrides=["tokenizer.kind=word", "tokenizer.min_count=2"]),
            tagged("letters", out, chosen, features="embeddings"),
            tagged("elmo", out, chosen, features="weighted-all"),
        ]
    kept = steps[:: max(1, len(steps) // 8)] + ([] if not steps else steps[-1:])
    rows = [tuple(f"{one[name]:,.1f}" for name in ("minutes", "forward", "backward")) for one in kept]
    parts = [table(("minutes", "held-out perplexity forward", "backward"), rows)]
    rows = [(one.layer, f"{100 * one.nearest:.1f}", f"{100 * one.pairs:.1f}") for one in told.layers]
    parts.append(table(("layer", "nearest has the sense, %", "pairs in order, %"), rows))
    parts.append(f"  by chance {100 * told.chance:.1f} and 50.0, which is what vectors without context have")
    rows = [(one["tagger"], f"{one['dev F1']:.2f}", f"{one['test F1']:.2f}") for one in taggers]
    parts.append(table(("BiLSTM-CRF on", "dev F1", "test F1"), rows))
    layers = [{"layer": one.layer, "nearest": one.nearest, "pairs": one.pairs} for one in told.layers]
    words = [{"word": one.word, "nearest": one.nearest, "pairs": one.pairs} for one in told.words]
    result = {"curve": steps, "senses": layers, "words": words, "ner": taggers, "minutes": chosen.minutes}
    report("elmo_es", "\n\n".join(parts), result, chosen.out)


if __name__ == "__main__":
    main()
