"""Commands that show what the lecture claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vocablo.base import registry
from vocablo.cli import show
from vocablo.cli.options import Json

app = typer.Typer()
ROOM = "vocablo.evaluation.claims"
NAMES = "; ".join(f"{name}: {registry.constant(ROOM, name, 'ABOUT')}" for name in registry.names(ROOM)) + "."


@app.command()
def claim(
    name: Annotated[str, typer.Argument(help=NAMES)],
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also draw table and curves into this HTML file.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=10, help="Training steps of each variant. [default: its own]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the text, the masks and the weights.")] = 0,
    json: Json = False,
) -> None:
    """One of the lecture's claims, tried in a few minutes on the embedded corpus."""
    from vocablo.evaluation import claims

    show.result(claims.run(name, steps=steps, seed=seed, quiet=json), json, show.claim, html=html)
