"""Table 1: GLUE. One fine-tuned model for each task; F1 of MRPC and QQP, Spearman of STS-B, Matthews of CoLA, else accuracy."""

from __future__ import annotations

import statistics

from vocablo.data.glue import TASKS
from vocablo.evaluation.tables._protocol import Row, Runner, Value, absent, value

TITLE = "GLUE"
SOURCE = "Devlin et al. 2019, table 1: test sets, scored by GLUE's server"
ABOUT = "the published figures are of the test sets; ours are of the development sets, whose labels are known"
ASKS, SEVERAL = "models", True
LEAD = ()
COLUMNS = ("MNLI-m", "MNLI-mm", "QQP", "QNLI", "SST-2", "CoLA", "STS-B", "MRPC", "RTE", "Average")
PUBLISHED = (
    ("training examples", (), ("392k", "392k", "363k", "108k", "67k", "8.5k", "5.7k", "3.5k", "2.5k", None)),
    ("Pre-OpenAI SOTA", (), (80.6, 80.1, 66.1, 82.3, 93.2, 35.0, 81.0, 86.0, 61.7, 74.0)),
    ("BiLSTM+ELMo+Attn", (), (76.4, 76.1, 64.8, 79.8, 90.4, 36.0, 73.3, 84.9, 56.8, 71.0)),
    ("OpenAI GPT", (), (82.1, 81.4, 70.3, 87.4, 91.3, 45.4, 80.0, 82.3, 56.0, 75.1)),
    ("BERT BASE", (), (84.6, 83.4, 71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4, 79.6)),
    ("BERT LARGE", (), (86.7, 85.9, 72.1, 92.7, 94.9, 60.5, 86.5, 89.3, 70.1, 82.1)),
)


def ours(runner: Runner) -> list[Row]:
    """A line for each model; the average is that of the columns which have a figure."""
    cells = {cell.name: cell for cell in runner.cells("glue")}
    rows = []
    for model in runner.ask.models:
        values = []
        for name in COLUMNS[:-1]:
            if name == "MNLI-mm":  # measured with MNLI-m: the model is the same
                continue
            cell, splits = cells[name], ("dev",)
            if name == "MNLI-m" and (other := cells["MNLI-mm"].files.get("dev")):
                cell, splits = cell.at({**cell.files, "mismatched": other}), ("dev", "mismatched")
            found = runner.tuned("glue", cell, model, splits=splits)
            measure = TASKS[cell.options["task"]].measures[0]
            values += [
                value(found, split, measure) for split in (("dev", "mismatched") if name == "MNLI-m" else splits)
            ]
        rows.append(Row(model, (), (*values, _average(runner, values))))
    return rows


def _average(runner: Runner, values: list[Value]) -> Value:
    there = [one.value for one in values if one.value is not None]
    if not there:
        return absent("no data")
    if len(there) < len(values):
        columns = [at for at, one in enumerate(values) if one.value is not None]
        base = statistics.fmean(float(PUBLISHED[-2][2][at]) for at in columns)  # type: ignore[arg-type]
        names = ", ".join(COLUMNS[at] for at in columns)
        runner.note(f"our average is of {names} alone; BERT BASE's average of these is {base:.1f}")
    return Value(statistics.fmean(there))
