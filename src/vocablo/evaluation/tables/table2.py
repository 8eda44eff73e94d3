"""Table 2: SQuAD 1.1. The stretch of a paragraph that answers a question: exact match and F1."""

from __future__ import annotations

import json
from dataclasses import replace

from vocablo.base import files
from vocablo.base.errors import ConfigError
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.tables._protocol import Row, Runner, absent, value

TITLE = "SQuAD 1.1"
SOURCE = "Devlin et al. 2019, table 2; BERT BASE and LARGE alone learn from the 87,599 questions of the training set"
ABOUT = "the test set is the server's, so that ours has none"
ASKS, SEVERAL = "models", False
LEAD = ()
COLUMNS = ("Dev EM", "Dev F1", "Test EM", "Test F1")
PUBLISHED = (
    ("Human", (), (None, None, 82.3, 91.2)),
    ("#1 Ensemble - nlnet", (), (None, None, 86.0, 91.7)),
    ("#2 Ensemble - QANet", (), (None, None, 84.5, 90.5)),
    ("BiDAF+ELMo (single)", (), (None, 85.6, None, 85.8)),
    ("R.M. Reader (ensemble)", (), (81.2, 87.9, 82.3, 88.5)),
    ("BERT BASE (single)", (), (80.8, 88.5, None, None)),
    ("BERT LARGE (single)", (), (84.1, 90.9, None, None)),
    ("BERT LARGE (ensemble)", (), (85.8, 91.8, None, None)),
    ("BERT LARGE (sgl.+TriviaQA)", (), (84.2, 91.1, 85.1, 91.8)),
    ("BERT LARGE (ens.+TriviaQA)", (), (86.2, 92.2, 87.4, 93.2)),
)


def ours(runner: Runner) -> list[Row]:
    """A line for each model."""
    (cell,) = runner.cells("squad")
    if runner.ask.articles is not None:
        cell = _split(runner, cell, runner.ask.articles)
    rows = []
    for model in runner.ask.models:
        found = runner.tuned("squad", cell, model)
        dev = tuple(value(found, "dev", measure) for measure in ("exact match", "f1"))
        rows.append(Row(model, (), (*dev, absent("no data"), absent("no data"))))
    return rows


def _split(runner: Runner, cell: Cell, articles: int) -> Cell:
    """The development set's first ``articles`` articles to learn from, the others to measure on."""
    if "dev" not in cell.files:
        return cell
    known = json.loads(cell.files["dev"].read_text(encoding="utf-8"))
    if not 0 < articles < len(known["data"]):
        raise ConfigError(f"--articles is between 0 and {len(known['data'])}, the articles of the development set.")
    parts = {"train": known["data"][:articles], "dev": known["data"][articles:]}
    made = {}
    for split, part in parts.items():
        made[split] = runner.ask.out / "data" / f"{split}-{articles}.json"
        files.write_text(made[split], json.dumps({**known, "data": part}, ensure_ascii=False))
    runner.note(
        f"data: learnt from the first {articles} articles of the development set and measured on the other "
        f"{len(parts['dev'])}, not on the whole"
    )
    return replace(cell, files=made)
