"""Table 6: the size of the model. Each size is pre-trained on the same text, then fine-tuned: accuracy on development sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vocablo import checkpoint
from vocablo.evaluation.tables._protocol import Record, Row, Runner, Value, absent, value
from vocablo.training import pretrain, recipe
from vocablo.training.run import holds_run

TITLE = "Ablation over the size of the model"
SOURCE = "Devlin et al. 2019, table 6; pre-trained on 3.3 billion words, mean of 5 random restarts"
ABOUT = "LM (ppl): masked perplexity per hidden token of held-out text; each vocabulary and text has its own"
ASKS, SEVERAL = "sizes", True
LEAD = ("#L", "#H", "#A")
COLUMNS = ("LM (ppl)", "MNLI-m", "MRPC", "SST-2")
PUBLISHED = (
    ("BERT", ("3", "768", "12"), (5.84, 77.9, 79.8, 88.4)),
    ("BERT", ("6", "768", "3"), (5.24, 80.6, 82.2, 90.7)),
    ("BERT", ("6", "768", "12"), (4.68, 81.9, 84.8, 91.3)),
    ("BERT BASE", ("12", "768", "12"), (3.99, 84.4, 86.7, 92.9)),
    ("BERT", ("12", "1024", "16"), (3.54, 85.7, 86.9, 93.3)),
    ("BERT LARGE", ("24", "1024", "16"), (3.23, 86.6, 87.8, 93.7)),
)
FAMILY = "bert"


def ours(runner: Runner) -> list[Row]:
    """A line for each size."""
    ask = runner.ask
    cells = {cell.name: cell for cell in runner.cells("glue")}
    rows = []
    for size in ask.sizes:
        learnt = _pretrained(runner, size)
        found = [runner.tuned("glue", cells[name], learnt["out"]) for name in COLUMNS[1:]]
        perplexity = learnt["perplexity"]
        values = (
            absent("not measured") if perplexity is None else Value(perplexity),
            *(value(one, "dev", "accuracy") for one in found),
        )
        runner.note(
            f"pre-training: {learnt['training_tokens']:,} tokens of text, {learnt['steps']:,} steps, a vocabulary of "
            f"{learnt['vocabulary']:,}"
        )
        rows.append(Row(f"{FAMILY}:{size}", tuple(learnt["shape"]), values))
    return rows


def _pretrained(runner: Runner, size: str) -> Record:
    ask = runner.ask
    asked = {
        "size": size, "text": list(ask.text), "documents": ask.documents, "steps": ask.pretrain_steps,
        "overrides": list(ask.pretraining),
    }  # fmt: skip
    return runner.kept(f"pretrained/{size}", asked, lambda folder: _pretrain(runner, size, folder))


def _pretrain(runner: Runner, size: str, folder: Path) -> Record:
    ask = runner.ask
    going_on = holds_run(folder)
    given: dict[str, Any] = {
        "size": size,
        "data": {"text": list(ask.text), "documents": ask.documents},
        "train": {"steps": ask.pretrain_steps},
    }
    stored = str(folder / "run" / "recipe.toml") if going_on else None
    made, origin = recipe.resolve(FAMILY, recipe=stored, given=given, overrides=ask.pretraining)
    result = pretrain.run(made, origin, pretrain.Order(folder, resume=going_on, quiet=ask.quiet))
    config = checkpoint.load(str(folder)).model.config
    found = dataclasses.asdict(result)
    kept = ("parameters", "vocabulary", "training_tokens", "perplexity")
    return {name: found[name] for name in kept} | {
        "out": str(folder),
        "steps": result.seeds[0].steps,
        "shape": [str(config.stack.layers), str(config.stack.width), str(config.attention.heads)],
    }
