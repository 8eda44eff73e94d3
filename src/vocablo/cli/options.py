"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str | None, typer.Option("--model", "-m", help="A model's folder, an .arpa file, or a hub name. [default: $VOCABLO_MODEL, else demo/transformer]")]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Text = Annotated[
    list[str], typer.Option("--text", help="Text: files, folders, globs, .gz, .xz, JSONL, CSV; several at once.")
]
Documents = Annotated[str, typer.Option(help="What one document is: file, line or paragraph.")]
Column = Annotated[str | None, typer.Option(help="The text column of JSONL, CSV or TSV.")]
Encoding = Annotated[str, typer.Option(help="The text's encoding; auto takes the detected one and names it.")]
Stride = Annotated[
    int | None, typer.Option(help="Step of the sliding window for text longer than the model's context.")
]
Dtype = Annotated[str | None, typer.Option(help="Weights at inference: fp32, bf16 or int8. [default: fp32]")]
Interpolate = Annotated[
    str | None, typer.Option(help="A second model with the same tokenizer: the weighted mean of both probabilities.")
]
Weight = Annotated[float | None, typer.Option(help="--interpolate: the first model's share. [default: 0.5]")]
