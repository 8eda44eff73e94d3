"""The lecture's tables: each one's protocol carried out, our lines beside the published ones, with what differs.

OUT/table1.json, OUT/table1.html     the table
OUT/cells/                           each finished cell's figures; it isn't made again
OUT/models/MODEL/TASK/               each cell's fine-tuned model (of several seeds the best one's), as evaluate takes them
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocablo.base import files, registry
from vocablo.base.errors import ConfigError
from vocablo.base.progress import quantity
from vocablo.base.results import as_json
from vocablo.evaluation.tables._protocol import Ask, Row, Runner, Table, Value, absent, check
from vocablo.views.page import page

TABLES = "vocablo.evaluation.tables"


def numbers() -> tuple[int, ...]:
    """The tables that there are, by their number in the paper."""
    return tuple(int(name.removeprefix("table")) for name in registry.names(TABLES))


def run(number: int, ask: Ask) -> Table:
    """Make a table, go on with one, or draw one that is finished.

    Raises ConfigError for a table that isn't there, what doesn't fit it, and cells that were made with other settings.
    """
    if number not in numbers():
        raise ConfigError(f"There is no table {number}; there are {', '.join(map(str, numbers()))}.")
    check(ask)
    room = registry.load(TABLES, f"table{number}")
    if room.ASKS == "models" and not ask.models:
        raise ConfigError("Which model? Give --model with a folder, a hub's name, or FAMILY:SIZE for fresh weights.")
    if room.ASKS == "sizes" and not (ask.sizes and ask.text):
        raise ConfigError(f"Table {number} pre-trains a ladder of sizes: give --sizes tiny,mini and --text FILE.")
    if ask.files and room.SEVERAL:
        raise ConfigError(f"Table {number} has a file for each of several tasks: give their folder with --data alone.")
    runner = Runner(ask)
    rows = room.ours(runner)
    table = Table(
        number, room.TITLE, room.SOURCE, room.LEAD, room.COLUMNS, _published(room.PUBLISHED), tuple(rows),
        tuple(_differs(runner, room)),
    )  # fmt: skip
    name = f"table{number}"
    files.write_text(ask.out / f"{name}.json", json.dumps(as_json(table), ensure_ascii=False, indent=1) + "\n")
    files.write_text(ask.out / f"{name}.html", page(f"Table {number}: {room.TITLE}", [table._repr_html_()]))
    return table


def _published(lines: Sequence[tuple[str, tuple[str, ...], Sequence[Any]]]) -> tuple[Row, ...]:
    """A published figure is a number, a text (a count of examples), or None."""

    def figure(one: Any) -> Value:
        return Value(float(one)) if isinstance(one, (int, float)) else absent(one or "-")

    return tuple(Row(system, facts, tuple(map(figure, values))) for system, facts, values in lines)


def _differs(runner: Runner, room: Any) -> list[str]:
    ask = runner.ask
    said = [f"weights: {Path(model).name} has {quantity(size)} parameters, BERT BASE 110M" for model, size in runner.sizes.items()]  # fmt: skip
    said += [room.ABOUT] if room.ABOUT else []
    budget = [f"{ask.seeds} seed" + ("s" if ask.seeds > 1 else "")]
    budget += [f"{100 * ask.fraction:g} % of the training examples"] if ask.fraction < 1 else []
    budget += [f"{ask.steps:,} steps"] if ask.steps is not None else []
    said.append("budget: " + ", ".join([*budget, *ask.overrides]))
    said.append("each run's best step is chosen on the development set; the paper chose rate and epochs on it")
    return said + runner.notes
