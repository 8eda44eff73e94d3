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
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models: folders, .arpa files, hub names; with --train also section.key=value of pretrain."
        ),
    ] = None,
    text: Text = [],  # noqa: B006
    documents: Documents = "file",
    column: Column = None,
    encoding: Encoding = "utf-8",
    stride: Stride = None,
    variant: Annotated[str, typer.Option(help="Encoders: token (Salazar) or word_l2r (Kauf and Ivanova).")] = "token",
    train: Annotated[
        list[str] | None,
        typer.Option(help="Train these families on --text first: FAMILY or FAMILY:SIZE, several."),
    ] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="--train: the text to compare on, which none was trained on.")
    ] = None,
    equal: Annotated[
        tuple[str, float] | None,
        typer.Option(help="--train: what each family gets: tokens, flops or minutes, and how much.", metavar="UNIT N"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="--train: a folder for the models; what is finished there isn't trained again.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option(help="--train: one run for each seed, and their mean and deviation.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="--train: a ready tokenizer's folder. [default: train one from the text]")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also draw tables and plots into this HTML file.")
    ] = None,
    json: Json = False,
) -> None:
    """Any set of models on one held-out text: perplexity, bits per byte, size, training cost and speed in one table."""
    from vocablo import api
    from vocablo.views.compare import as_text

    reading = dict(documents=documents, column=column, encoding=encoding, stride=stride, variant=variant, quiet=json)
    given = {"--held-out": held_out, "--equal": equal, "--out": out, "--seeds": seeds, "--tokenizer": tokenizer}
    if not train:
        if stray := [name for name, value in given.items() if value]:
            raise ConfigError(f"{' and '.join(stray)} can't be used without --train.")
        if not text:
            raise ConfigError("On which text? Give --text with a file that the models haven't seen.")
        return show.result(api.compare(models or (), text, **reading), json, as_text, html=html)
    if not text:
        raise ConfigError("On which text are they trained? Give --text, and --held-out with what they are compared on.")
    for name in ("--held-out", "--equal", "--out"):
        if not given[name]:
            raise ConfigError(f"--train needs {name} too: --held-out FILE --equal tokens|flops|minutes N --out FOLDER.")
    assert held_out
    assert equal
    assert out
    changes = [one for one in models or () if "=" in one and not Path(one).exists()]
    result = api.train_and_compare(
        train, text, held_out, equal=equal, out=out, seeds=seeds or (), tokenizer=tokenizer,
        models=[one for one in models or () if one not in changes], overrides=changes, **reading,
    )  # fmt: skip
    show.result(result, json, as_text, html=html)
