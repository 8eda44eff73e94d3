"""The command that measures: published tests, by their official measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show
from vocablo.cli.options import Json
from vocablo.views.terminal import format_number, table

app = typer.Typer()


@app.command()
def evaluate(
    suite: Annotated[str, typer.Argument(help="glue, squad, ner, pos or swag.")],
    task: Annotated[str | None, typer.Argument(help="Which task, of glue: cola, sst2, mrpc, stsb, ...")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Predictions in the official format: GLUE's TSV, SQuAD's JSON, CoNLL's columns."),
    ] = None,
    gold: Annotated[
        Path | None,
        typer.Option(help="The true answers, in the format of the set. [default: for ner, the last column but one]"),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other predictions, for a paired test of the difference.")
    ] = None,
    test: Annotated[str, typer.Option(help="The paired test: bootstrap, randomisation or mcnemar.")] = "bootstrap",
    language: Annotated[
        str | None, typer.Option(help="squad: whose articles don't count, en or es. [default: en]")
    ] = None,
    no_answer: Annotated[
        Path | None, typer.Option(help="squad: a JSON file, id to the probability that there is no answer.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="squad: over it there is no answer. [default: 1]")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="ner: spans as IOB2 has them, not as conlleval does.")
    ] = False,
    column: Annotated[
        str | None, typer.Option(help="ner, pos: the gold tags' column, from 0, or upos, xpos. [default: the last]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    json: Json = False,
) -> None:
    """Measure predictions by the official measures of a published test, with intervals."""
    from vocablo.evaluation import files

    if predictions is None:
        raise ConfigError("What is to be measured? Give the file of predictions: --predictions FILE.")
    options: dict[str, Any] = {
        "task": task,
        "language": language,
        "no_answer": no_answer,
        "threshold": threshold,
        "mode": "strict" if strict else None,
        "column": int(column) if column is not None and column.lstrip("-").isdecimal() else column,
    }
    given = {name: value for name, value in options.items() if value is not None}
    result = files.evaluate(suite, predictions, gold, options=given, against=against, test=test, seed=seed)
    show.result(result, json, report)


def report(value: Any) -> str:
    """Scores times 100 with their intervals, the groups' below, and the comparison."""
    rows = [(one.name, _percent(one.value), _range(one.interval)) for one in value.scores]
    unit = f"{value.scores[0].count:,} {value.scores[0].unit}"
    lines = [f"  {value.protocol}: {unit}", table(("measure", "value", "interval"), rows)]
    if value.facts:
        lines.append(f"  {', '.join(_fact(*fact) for fact in value.facts.items())}")
    if value.groups:
        first = value.groups[0]
        header = ("", *(one.name for one in first.scores), *first.facts)
        cells = [
            (one.name, *(_percent(score.value) for score in one.scores), *map(format_number, one.facts.values()))
            for one in value.groups
        ]
        lines += ["", table(header, cells)]
    if value.comparison:
        lines += ["", _comparison(value.comparison)]
    lines += [f"  note: {note}" for note in value.notes]
    return "\n".join(lines)


def _percent(value: float) -> str:
    return f"{value * 100:.2f}" if value == value else "-"


def _range(interval: Any) -> str:
    if interval is None:
        return "-"
    return f"{interval.level:.0%} in {_percent(interval.low)} to {_percent(interval.high)}"


def _fact(name: str, value: float) -> str:
    share = name.startswith("best ")
    return f"{name} {_percent(value) if share else format_number(value)}"


def _comparison(tests: Any) -> str:
    rows = [
        (one.measure, _percent(one.first), _percent(one.second), f"{one.difference * 100:+.2f}", _range(one.interval), f"{one.p:.4f}")
        for one in tests
    ]  # fmt: skip
    return f"  {tests[0].test}\n" + table(("measure", "first", "second", "difference", "interval", "p"), rows)
