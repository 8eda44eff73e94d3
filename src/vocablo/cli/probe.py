"""The command that looks into every layer of a frozen model with a linear probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show
from vocablo.cli.arguments import model_path
from vocablo.cli.options import Encoding, Json, Model
from vocablo.cli.tasks import Format, IdColumn, LabelColumn, PairColumn, TextColumn

app = typer.Typer()


@app.command()
def probe(
    model: Model = None,
    train: Annotated[Path | None, typer.Option(help="Labelled examples to learn from.")] = None,
    dev: Annotated[Path | None, typer.Option(help="Held-out examples.")] = None,
    format: Format = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    word_column: Annotated[
        str | None, typer.Option(help="Of a table: the column of the word of the text that the label is about.")
    ] = None,
    tag_column: Annotated[
        str | None,
        typer.Option(help="Of a file of columns: the tags' place, from 0, or upos, xpos. [default: the last]"),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Learn from this share of the examples.")] = 1.0,
    context: Annotated[int | None, typer.Option(min=3, help="Tokens read at most. [default: the model's]")] = None,
    html: Annotated[Path | None, typer.Option(help="Also draw the curve over the layers into this HTML file.")] = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """What every layer of a frozen model knows: a linear probe on each, from the embeddings to the last."""
    if train is None or dev is None:
        raise ConfigError(
            "On which labels? Give --train FILE and --dev FILE: CoNLL's columns, a table, or GLUE's files."
        )
    from vocablo import api

    given = {
        "format": format, "text": text_column, "pair": pair_column, "label": label_column, "id": id_column,
        "tags": tag_column, "encoding": encoding,
    }  # fmt: skip
    columns = {name: value for name, value in given.items() if value is not None}
    result = api.probe(
        model_path(model), train, dev, columns=columns, word_column=word_column, fraction=fraction, context=context,
        quiet=json,
    )  # fmt: skip
    show.result(result, json, _probed, html=html)


def _probed(value: object) -> str:
    from vocablo.evaluation.probe import Probe
    from vocablo.views.layers import layer_table

    assert isinstance(value, Probe)
    scores = [(one.name, [layer.scores[i].value for layer in value.layers]) for i, one in enumerate(value.majority)]
    names = [layer.name for layer in value.layers]
    facts = f"  {value.what}: {value.rows:,} to learn from, {value.dev_rows:,} held out, {len(value.labels)} labels"
    return facts + "\n" + layer_table(names, scores, [one.value for one in value.majority])
