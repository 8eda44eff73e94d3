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
    suite: Annotated[
        str, typer.Argument(help="glue, squad, ner, pos, swag, translation, summarization, wordsim or senses.")
    ],
    task: Annotated[
        str | None,
        typer.Argument(help="Which task, of glue: cola, sst2, mrpc, stsb, ...; of wordsim: a part of a set's name."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A fine-tuned model's folder, or a folder with one for each task of glue."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The set's folder as it is published, or the file of one test; of translation SOURCE,TARGET."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Of --data: dev, test or train.")] = "dev",
    out: Annotated[
        Path | None,
        typer.Option(help="Write the model's predictions here, in the official format: a folder, or a file."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Predictions in the official format: GLUE's TSV, SQuAD's JSON, CoNLL's columns, texts one a line."
        ),
    ] = None,
    gold: Annotated[
        Path | None,
        typer.Option(help="The true answers, in the format of the set. [default: for ner, the last column but one]"),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other predictions, or another model, for a paired test of the difference.")
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
    """Measure a model, or predictions, by the official measures of a published test, with intervals."""
    if (predictions is None) == (model is None):
        raise ConfigError(
            "What is to be measured? A model on a set (--model FOLDER --data DIR), or a file of predictions "
            "(--predictions FILE --gold FILE); one of the two."
        )
    others = {
        "--predictions": predictions, "--gold": gold, "--out": out, "--against": against, "--language": language,
        "--no-answer": no_answer, "--threshold": threshold, "--strict": strict or None, "--column": column,
    }  # fmt: skip
    if suite == "wordsim":
        return _wordsim(model, data, task, seed, json, others)
    if suite == "senses":
        return _senses(model, data, json, {"the argument": task, **others})
    options: dict[str, Any] = {
        "task": task,
        "language": language,
        "no_answer": no_answer,
        "threshold": threshold,
        "mode": "strict" if strict else None,
        "column": int(column) if column is not None and column.lstrip("-").isdecimal() else column,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if predictions is not None:
        from vocablo.evaluation import files

        _unused("--predictions", {"--data": data, "--out": out})
        result = files.evaluate(suite, predictions, gold, options=given, against=against, test=test, seed=seed)
        return show.result(result, json, report)
    from vocablo.evaluation import models

    _unused("--model", {"--gold": gold, "--no-answer": no_answer})
    if data is None or model is None:
        raise ConfigError("On what? Give the set's folder, or the file of one test: --data DIR.")
    found = models.evaluate(
        suite, model, data, options=given, split=split, out=out, against=against, test=test, seed=seed, quiet=json
    )
    show.result(found, json, suite_report)


def _wordsim(
    model: str | None, data: Path | None, only: str | None, seed: int, json: bool, others: dict[str, Any]
) -> None:
    """Word vectors on sets of pairs and analogies."""
    from vocablo import api
    from vocablo.evaluation import wordsim

    _unused("wordsim", others)
    if model is None or data is None:
        raise ConfigError("Which vectors, on what? Give --model FOLDER (or a file of vectors) and --data FOLDER.")
    result = wordsim.evaluate(api.load(model), data, only=only, seed=seed, quiet=json)
    show.result(result, json, wordsim_report)


def _senses(model: str | None, data: Path | None, json: bool, others: dict[str, Any]) -> None:
    """Vectors of words in sentences on ambiguous words."""
    from vocablo import api
    from vocablo.evaluation import senses

    _unused("senses", others)
    if model is None:
        raise ConfigError(
            "Which model? Give --model FOLDER (or a file of vectors); --data FILE for words of one's own."
        )
    show.result(senses.evaluate(api.load(model), data, quiet=json), json, senses_report)


def senses_report(value: Any) -> str:
    """A line for each layer, then the words at the last one."""
    layers = [(one.layer, _percent(one.nearest), _percent(one.pairs)) for one in value.layers]
    words = [(one.word, " / ".join(one.senses), _percent(one.nearest), _percent(one.pairs)) for one in value.words]
    lines = [
        table(("layer", "nearest has the sense, %", "pairs in order, %"), layers),
        f"  {value.uses} uses of {len(value.words)} words; by chance {_percent(value.chance)} and 50.00",
        "",
        table(("word, last layer", "senses", "nearest", "pairs"), words),
    ]
    if value.unknown:
        lines.append(f"  without a vector, left out: {', '.join(value.unknown)}")
    return "\n".join(lines)


def wordsim_report(value: Any) -> str:
    """A line for each set, with how many of its pairs or questions could be asked."""
    lines = []
    for title, unit, sets in (("similarity", "pairs", value.similarity), ("analogies", "questions", value.analogies)):
        rows = [
            (one.name, _percent(one.score.value), _range(one.score.interval), f"{one.score.count:,} of {one.total:,}")
            for one in sets
        ]
        if rows:
            measure = "Spearman x 100" if unit == "pairs" else "right, %"
            lines.append(table((title, measure, "interval", f"known {unit}"), rows))
    lines.append(f"  {value.words:,} words have a vector; pairs and questions with others are left out")
    if value.unknown:
        lines.append(f"  fewer than ten known: {', '.join(value.unknown)}")
    if value.others:
        lines.append(f"  no sets of scored pairs or analogies: {len(value.others)} files")
    return "\n".join(lines)


def _unused(option: str, others: dict[str, Any]) -> None:
    if given := [name for name, value in others.items() if value is not None]:
        raise ConfigError(f"{given[0]} doesn't go with {option}: leave it out.")


def suite_report(value: Any) -> str:
    """One test whole; of several a line for each measure, and what is absent."""
    if len(value.cells) == 1 and value.cells[0].report is not None:
        written = value.cells[0].out
        return report(value.cells[0].report) + (f"\n  predictions in {written}" if written else "")
    rows: list[tuple[object, ...]] = []
    for cell in value.cells:
        if cell.report is None:
            rows.append((cell.name, cell.absent, "", "", "", ""))
            continue
        compared = {one.measure: one for one in cell.report.comparison}
        for score in cell.report.scores:
            paired = compared.get(score.name)
            difference = "" if paired is None else f"{paired.difference * 100:+.2f} (p {paired.p:.4f})"
            shown = (score.name, _percent(score.value), _range(score.interval), f"{score.count:,}", difference)
            rows.append((cell.name, *shown))
    columns = 5 if value.against is None else 6
    header = ("test", "measure", "value", "interval", "examples", "difference")[:columns]
    rows = [row[:columns] for row in rows]
    lines = [f"  {value.model} on {value.suite}, {value.split}", table(header, rows)]
    lines += [f"  predictions in {cell.out}" for cell in value.cells if cell.out]
    return "\n".join(lines)


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
