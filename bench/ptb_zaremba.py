"""Penn Treebank with Zaremba's LSTM, alone and mixed with a 5-gram and with its cache.

    python bench/ptb_zaremba.py --data ../shared/data/ptb_mikolov
    python bench/ptb_zaremba.py --size medium --dtype bf16

The recipes are zaremba-small (2 x 200 units, no dropout, 13 epochs), -medium (2 x 650, 0.5, 39) and -large (2 x 1500, 0.65,
55): 20 parallel streams whose state goes on from step to step and is zero at the start of an epoch, SGD, the rate halved (or
divided by 1.2, 1.15) each epoch after the 4th (6th, 14th). The run lies in ``--folder`` and goes on there when it was
interrupted. Validation and test text are read as one stream, each from its boundary on, and every token is predicted, the
ends of lines too (82,430 of the test text). The model is that of the evaluation that is best on the validation set, as are a
mixture's weight and a cache's. Published (Zaremba et al. 2014, table 1): valid and test 120.7 and 114.5, 86.2 and 82.7,
82.2 and 78.4, alone.
"""

from __future__ import annotations

import time
from math import ceil
from pathlib import Path
from typing import Any

import vocablo
from _harness import HERE, SHARED, need, options, report
from ptb_neural import counted
from vocablo.api import LanguageModel, load
from vocablo.data.readers import read_documents
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.run import holds_run
from vocablo.views.terminal import table

POSITIONS = {"small": 20, "medium": 35, "large": 35}
PUBLISHED = {"small": ("120.7", "114.5"), "medium": ("86.2", "82.7"), "large": ("82.2", "78.4")}


def trained(chosen: Any, train: Path, valid: Path, tokenizer: Path, folder: Path) -> tuple[LanguageModel, Any]:
    """The LSTM and what its run says, gone on with when it was begun before."""
    tokens = sum(len(line.split()) + 1 for line in train.read_text(encoding="utf-8").splitlines())
    changes = [f"train.seed={chosen.seed}", f"train.dtype={chosen.dtype}"]
    changes += [f"train.evaluate_every={ceil(tokens // 20 / POSITIONS[chosen.size])}"]  # once an epoch
    changes += [f"train.epochs={chosen.epochs:g}"] if chosen.epochs else []
    changes += ["model.stack.variational=true"] if chosen.variational else []
    result = vocablo.pretrain(
        "lstm", recipe=f"zaremba-{chosen.size}", text=train, out=folder, tokenizer=tokenizer,
        data={"documents": "line", "validation_text": [valid]}, overrides=changes, resume=holds_run(folder),
    )  # fmt: skip
    model = load(folder)
    assert isinstance(model, LanguageModel)
    return model, result


def main() -> None:
    chosen = options(
        __doc__,
        data=(str(SHARED / "ptb_mikolov"), "folder of ptb.train.txt, ptb.valid.txt, ptb.test.txt"),
        folder=(str(HERE / "out" / "ptb_zaremba"), "where the run lies"),
        size=("small", "small, medium or large"),
        epochs=(0.0, "instead of the recipe's; 0: those"),
        dtype=("fp32", "or bf16"),
        variational=(0, "1: dropout with one mask for all positions, on the recurrent connections too (Gal)"),
        seed=(0, "of the weights and of dropout"),
    )
    train, valid, test = (need(Path(chosen.data) / f"ptb.{part}.txt") for part in ("train", "valid", "test"))
    texts = [[one.text for one in read_documents([path], documents="line")] for path in (train, valid)]
    named = f"{chosen.size}-{chosen.dtype}{'-variational' if chosen.variational else ''}-seed-{chosen.seed}"
    folder = Path(chosen.folder) / named
    tokenizer = Tokenizer.train("word", texts[0], split="whitespace")
    tokenizer.save(Path(chosen.folder) / "tokenizer")
    lstm, run = trained(chosen, train, valid, Path(chosen.folder) / "tokenizer", folder)
    plain, cached = counted(texts, tokenizer)
    begun = time.perf_counter()
    models = {"5-gram": (plain, False), "5-gram with cache": (cached, True), "LSTM": (lstm, True)}
    for name, other in (("LSTM + 5-gram", plain), ("LSTM + 5-gram with cache", cached)):
        models[name] = (vocablo.interpolate(lstm, other, text=valid, documents="line", carry=True), True)
    one, rows = run.seeds[0], []
    result: dict[str, Any] = {"size": chosen.size, "dtype": chosen.dtype, "seed": chosen.seed, "perplexity": {}}
    result |= {"parameters": run.parameters, "steps": one.steps, "seconds": one.seconds, "stopped_by": one.stopped_by}
    for name, (model, carry) in models.items():
        found = [model.perplexity(path, documents="line", carry=carry) for path in (valid, test)]
        weight = getattr(model.model, "weight", None)
        result["perplexity"][name] = {"valid": found[0].perplexity, "test": found[1].perplexity, "weight": weight}
        published = PUBLISHED[chosen.size] if name == "LSTM" else ("", "")
        rows.append(
            (name, "" if weight is None else f"{weight:.3f}", *(f"{one.perplexity:.2f}" for one in found), *published)
        )
        result["test_tokens"] = found[1].tokens
    result["evaluation_seconds"] = time.perf_counter() - begun
    head = (
        f"{chosen.size}, {run.parameters:,} parameters, {one.steps:,} steps in {one.seconds / 60:.1f} minutes "
        f"({one.stopped_by}), {chosen.dtype}, seed {chosen.seed}; {result['test_tokens']:,} test tokens"
    )
    drawn = table(("perplexity", "LSTM share", "valid", "test", "published valid", "test"), rows)
    report("ptb_zaremba", f"{head}\n{drawn}", result, chosen.out)


if __name__ == "__main__":
    main()
