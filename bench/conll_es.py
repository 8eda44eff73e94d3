"""CoNLL-2002's Spanish entities by a character-BiLSTM and word-BiLSTM-CRF (Lample et al. 2016), with and without ELMo.

    python bench/conll_es.py --data ../shared/data/conll2002_es
    python bench/conll_es.py --vectors vectors.vec --elmo DIR

Words in lower case have 64 numbers of their own, their letters 25 each and 25 units each way, sentences 100 units each way;
dropout 0.5, the tags told together by a CRF; a word that comes once is read as unknown half of the times. As in the paper, but
for the optimizer: Adam over batches in the place of SGD over single sentences. ``--letters 0`` leaves the letters out. With
``--vectors`` the words begin with those; with ``--elmo`` the same BiLSTM-CRF reads all layers of a pre-trained ELMo, mixed,
and no words of its own. The model is that of the evaluation that is best on testa; testb is the test set.
Published: 85.75 with word vectors learnt on much text (Lample et al. 2016, table 2), with dropout.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from _harness import HERE, SHARED, need, options, report
from vocablo import api
from vocablo.views.terminal import table

NETWORK = (
    "tokenizer.kind=word", "tokenizer.split=whitespace", "task.crf=true",
    "architecture.stack.width=100", "architecture.stack.layers=1", "architecture.stack.dropout=0.5",
)  # fmt: skip


def files(data: Path) -> dict[str, Path]:
    """Training, development and test set, whatever their endings are."""
    found = {part: next(iter(sorted(data.glob(f"*{part}*"))), data / part) for part in ("train", "testa", "testb")}
    return {part: need(path) for part, path in found.items()}


def settings(chosen: Any) -> dict[str, tuple[str, tuple[str, ...], str | None]]:
    """Name -> model, overrides, features."""
    length = (
        f"train.epochs={chosen.epochs:g}",
        f"train.lr={chosen.lr:g}",
        f"train.batch={chosen.batch}",
        "train.clip=5",
    )
    words = () if chosen.vectors else ("architecture.embed.width=64",)
    vectors = (f"architecture.embed.vectors={chosen.vectors}",) if chosen.vectors else ()
    letters = ("architecture.chars.width=25", "architecture.chars.hidden=25")
    named = {"words": (), "words and letters": letters} if chosen.letters else {"words": ()}
    found: dict[str, tuple[str, tuple[str, ...], str | None]] = {
        name: ("bilstm:small", (*NETWORK, *words, *vectors, *own, *length), None) for name, own in named.items()
    }
    if chosen.elmo:
        own = ("task.crf=true", "read.lstm_width=100", "read.lstm_layers=1", "read.dropout=0.5", *length)
        found["ELMo's layers, mixed"] = (chosen.elmo, own, "weighted-all")
    return found


def main() -> None:
    chosen = options(
        __doc__,
        data=(str(SHARED / "conll2002_es"), "folder of the training set, testa and testb"),
        folder=(str(HERE / "out" / "conll_es"), "where the models lie; what is finished there isn't learnt again"),
        epochs=(20.0, "over the training set"),
        lr=(2e-3, "of Adam"),
        batch=(16, "sentences of a step"),
        seeds=(1, "runs of each"),
        fraction=(1.0, "of the training sentences"),
        letters=(1, "0: without the model that reads letters"),
        vectors=("", "a file of Spanish word vectors for the words to begin with"),
        elmo=("", "a folder of a pre-trained ELMo"),
    )
    parts = files(Path(chosen.data))
    rows: list[tuple[Any, ...]] = []
    result: dict[str, Any] = {"epochs": chosen.epochs, "fraction": chosen.fraction, "cells": []}
    for name, (model, overrides, features) in settings(chosen).items():
        folder = Path(chosen.folder) / name.replace(" ", "-").replace("'", "").replace(",", "")
        begun = time.perf_counter()
        run = api.finetune(
            "tag", model=model, train=parts["train"], dev=parts["testa"], out=folder, seeds=chosen.seeds,
            columns={"format": "conll"}, features=features, fraction=chosen.fraction, overrides=overrides,
            resume=folder.exists(),
        )  # fmt: skip
        predictions = folder / "testb.conll"
        api.load(folder).predict_file(parts["testb"], predictions, columns={"format": "conll"})
        tested = api.evaluate("ner", predictions, parts["testb"])
        f1 = next(one for one in tested.scores if one.name.startswith("f1") or "f1" in one.name)
        seconds = time.perf_counter() - begun
        rows.append(
            (name, f"{run.parameters:,}", f"{100 * (run.value or 0):.2f}", f"{100 * f1.value:.2f}", f"{seconds:.0f}")
        )
        result["cells"].append(
            {"name": name, "parameters": run.parameters, "testa": run.value, "testb": f1.value, "seconds": seconds}
        )
    head = (
        f"F1 on CoNLL-2002 Spanish, {chosen.epochs:g} epochs, {chosen.fraction:.0%} of the sentences (published: 85.75)"
    )
    drawn = table(("reads", "parameters", "testa", "testb", "seconds"), rows)
    report("conll_es", f"{head}\n{drawn}", result, chosen.out)


if __name__ == "__main__":
    main()
