"""The command that makes the lecture's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show
from vocablo.cli.options import Json, Text

app = typer.Typer()


@app.command()
def table(
    number: Annotated[
        int, typer.Argument(help="1: GLUE, 2: SQuAD, 4: SWAG, 6: the ladder of sizes, 7: named entities.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value of finetune, e.g. train.lr=3e-5; of pretrain: pretrain.train.lr=1e-3"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A model's folder or hub name, or FAMILY:SIZE; several.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The set's folder, as it is published.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where cells, models and the table go. [default: table1, ...]")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each cell, and their mean and deviation.")] = 1,
    fraction: Annotated[float, typer.Option(help="Learn from this share of the training examples.")] = 1.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each run. [default: three epochs]")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Tables 2, 4, 7: the training file, where --data has another.")
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Tables 2, 4, 7: the development file.")] = None,
    test: Annotated[Path | None, typer.Option(help="Tables 4, 7: the test file.")] = None,
    articles: Annotated[
        int | None, typer.Option(min=1, help="Table 2: learn from so many articles of the development set.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(help="Table 6: the sizes, as tiny,mini,small.")] = None,
    text: Text = [],  # noqa: B006
    documents: Annotated[
        str | None, typer.Option(help="Table 6: what one document is: file, line or paragraph.")
    ] = None,
    pretrain_steps: Annotated[int | None, typer.Option(min=1, help="Table 6: steps of pre-training.")] = None,
    json: Json = False,
) -> None:
    """One of the lecture's tables on BERT: its protocol carried out, our line beside the published ones. Goes on if cut off."""
    if stray := [one for one in overrides or () if "=" not in one]:
        raise ConfigError(f"What is {stray[0]!r}? Changes are given as section.key=value.")
    if data is None:
        raise ConfigError("On which data? Give the set's folder: --data DIR.")
    from vocablo.evaluation import papers
    from vocablo.evaluation.tables._protocol import Ask
    from vocablo.views.papers import as_text

    named = {"train": train, "dev": dev, "test": test}
    prefix = "pretrain."
    ask = Ask(
        data, out or Path(f"table{number}"), tuple(model or ()), seeds, fraction, steps,
        {split: path for split, path in named.items() if path is not None}, articles,
        tuple(filter(None, (sizes or "").split(","))), tuple(text), documents, pretrain_steps,
        tuple(one for one in overrides or () if not one.startswith(prefix)),
        tuple(one.removeprefix(prefix) for one in overrides or () if one.startswith(prefix)), json,
    )  # fmt: skip
    show.result(papers.run(number, ask), json, as_text)
