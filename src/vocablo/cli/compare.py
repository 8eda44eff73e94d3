"""The command that puts models side by side on one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show
from vocablo.cli.options import Column, Documents, Encoding, Json, Stride, Text

app = typer.Typer()


@app.command()
def compare(
    models: Annotated[list[str] | None, typer.Argument(help="Models: folders, .arpa files, hub names.")] = None,
    text: Text = [],  # noqa: B006
    documents: Documents = "file",
    column: Column = None,
    encoding: Encoding = "utf-8",
    stride: Stride = None,
    variant: Annotated[str, typer.Option(help="Encoders: token (Salazar) or word_l2r (Kauf and Ivanova).")] = "token",
    html: Annotated[Path | None, typer.Option(help="Also draw tables and plots into this HTML file.")] = None,
    json: Json = False,
) -> None:
    """Any set of models on one held-out text: perplexity, bits per byte, size, training cost and speed in one table."""
    from vocablo import api
    from vocablo.views.compare import as_text

    if not text:
        raise ConfigError("On which text? Give --text with a file that the models haven't seen.")
    result = api.compare(
        models or (), text, documents=documents, column=column, encoding=encoding, stride=stride, variant=variant,
        quiet=json,
    )  # fmt: skip
    show.result(result, json, as_text, html=html)
