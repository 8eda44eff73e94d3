"""Table 7: named entities. All weights fine-tuned, or a BiLSTM of two layers on six choices of frozen features: F1 of spans."""

from __future__ import annotations

from vocablo.base.errors import ConfigError
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.tables._protocol import Record, Row, Runner, absent, value
from vocablo.nn.features import layers_of

TITLE = "CoNLL named entities"
SOURCE = "Devlin et al. 2019, table 7: CoNLL-2003 English, mean of 5 random restarts"
ABOUT = "the paper reads a sentence within its document (task.around), ours alone unless asked"
ASKS, SEVERAL = "models", False
LEAD = ()
COLUMNS = ("Dev F1", "Test F1")
PUBLISHED = (
    ("ELMo (Peters et al. 2018)", (), (95.7, 92.2)),
    ("CVT (Clark et al. 2018)", (), (None, 92.6)),
    ("CSE (Akbik et al. 2018)", (), (None, 93.1)),
    ("BERT LARGE, fine-tuned", (), (96.6, 92.8)),
    ("BERT BASE, fine-tuned", (), (96.4, 92.4)),
    ("BERT BASE, embeddings", (), (91.0, None)),
    ("BERT BASE, second-to-last", (), (95.6, None)),
    ("BERT BASE, last", (), (94.9, None)),
    ("BERT BASE, weighted-last-4", (), (95.9, None)),
    ("BERT BASE, concat-last-4", (), (96.1, None)),
    ("BERT BASE, weighted-all", (), (95.5, None)),
)
FEATURES = ("embeddings", "second-to-last", "last", "weighted-last-4", "concat-last-4", "weighted-all")


def ours(runner: Runner) -> list[Row]:
    """Seven lines for each model."""
    (cell,) = runner.cells("ner")
    if cell.files:
        runner.note(f"data: {', '.join(path.name for path in cell.files.values())}")
    rows = []
    for model in runner.ask.models:
        found = runner.tuned("ner", cell, model, splits=("dev", "test"))
        rows.append(_row(f"{model}, fine-tuned", found))
        rows += [_features(runner, cell, model, choice, found) for choice in FEATURES]
    return rows


def _features(runner: Runner, cell: Cell, model: str, choice: str, tuned: Record | None) -> Row:
    name = f"{model}, {choice}"
    try:
        layers_of(choice, tuned["layers"] if tuned else 12)
    except ConfigError:  # four layers of a model that has fewer
        return Row(name, (), (absent("too few layers"),) * 2)
    return _row(name, runner.tuned("ner", cell, model, features=choice, splits=("dev", "test")))


def _row(name: str, found: Record | None) -> Row:
    return Row(name, (), tuple(value(found, split, "f1") for split in ("dev", "test")))
