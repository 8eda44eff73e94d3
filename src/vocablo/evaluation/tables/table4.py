"""Table 4: SWAG. Which of four endings follows: accuracy. CODAH's questions are of the same form."""

from __future__ import annotations

from vocablo.evaluation.tables._protocol import Row, Runner, value

TITLE = "SWAG"
SOURCE = "Devlin et al. 2019, table 4"
ABOUT = ""
ASKS, SEVERAL = "models", False
LEAD = ()
COLUMNS = ("Dev", "Test")
PUBLISHED = (
    ("ESIM+GloVe", (), (51.9, 52.7)),
    ("ESIM+ELMo", (), (59.1, 59.2)),
    ("OpenAI GPT", (), (None, 78.0)),
    ("BERT BASE", (), (81.6, None)),
    ("BERT LARGE", (), (86.6, 86.3)),
    ("Human (expert), 100 samples", (), (None, 85.0)),
    ("Human (5 annotations), 100 samples", (), (None, 88.0)),
)
PAPER = ("train.lr=2e-5", "train.batch=16", "train.epochs=3")


def ours(runner: Runner) -> list[Row]:
    """A line for each model."""
    (cell,) = runner.cells("swag")
    if cell.name == "CODAH" and not runner.ask.files:
        runner.note("data: CODAH (Chen et al. 2019), 2,776 questions in SWAG's form, and not SWAG's 113,000")
    rows = []
    for model in runner.ask.models:
        found = runner.tuned("swag", cell, model, usual=PAPER, splits=("dev", "test"))
        rows.append(Row(model, (), (value(found, "dev", "accuracy"), value(found, "test", "accuracy"))))
    return rows
