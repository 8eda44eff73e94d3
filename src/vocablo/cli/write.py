"""Commands that write a text from a source: translate, summarize."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show, show_tasks
from vocablo.cli.arguments import model_path
from vocablo.cli.options import Dtype, Encoding, Json, Model

app = typer.Typer()

Texts = Annotated[
    list[str], typer.Argument(help="Texts; or one file, whose lines are read; - reads lines from standard input.")
]
Beam = Annotated[
    int | None, typer.Option(help="Search with so many hypotheses. [default: the model's own, most often 1]")
]
NBest = Annotated[int | None, typer.Option(help="Show so many, best first, with their scores. [default: 1]")]
LengthPenalty = Annotated[
    float | None, typer.Option(help="Divide log p by length^alpha; 0 favours short texts. [default: 1]")
]
Coverage = Annotated[
    float | None, typer.Option(help="Reward attention to all of the source, as GNMT does. [default: 0]")
]
MinTokens = Annotated[int | None, typer.Option(help="Don't end before so many tokens.")]
MaxTokens = Annotated[
    int | None, typer.Option(help="Stop after so many. [default: twice the longest source's and 20 more]")
]
NoRepeat = Annotated[int | None, typer.Option(help="No sequence of so many tokens twice.")]
Prefix = Annotated[str | None, typer.Option(help="What the text begins with.")]
Must = Annotated[list[str] | None, typer.Option(help="--beam: words or phrases that the text must have.")]
Ban = Annotated[list[str] | None, typer.Option(help="Words or phrases that it may not have.")]
Language = Annotated[
    str | None,
    typer.Option(help="What a model of many languages writes, as its tokenizer has it: es_XX, es or the like."),
]
SourceLanguage = Annotated[str | None, typer.Option(help="What it reads. [default: as its tokenizer says]")]


@app.command()
def translate(
    texts: Texts,
    model: Model = None,
    beam: Beam = None,
    n_best: NBest = None,
    length_penalty: LengthPenalty = None,
    coverage: Coverage = None,
    min_tokens: MinTokens = None,
    max_tokens: MaxTokens = None,
    no_repeat: NoRepeat = None,
    prefix: Prefix = None,
    must: Must = None,
    ban: Ban = None,
    language: Language = None,
    source_language: SourceLanguage = None,
    encoding: Encoding = "utf-8",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Translate texts, from a model that was trained on pairs of them."""
    how = dict(beam=beam, n_best=n_best, length_penalty=length_penalty, coverage=coverage, min_tokens=min_tokens,
               max_tokens=max_tokens, no_repeat=no_repeat, prefix=prefix, include=must, exclude=ban)  # fmt: skip
    _written("translate", texts, model, how, encoding, dtype, json, (language, source_language))


@app.command()
def summarize(
    texts: Texts,
    model: Model = None,
    beam: Beam = None,
    n_best: NBest = None,
    length_penalty: LengthPenalty = None,
    min_tokens: MinTokens = None,
    max_tokens: MaxTokens = None,
    no_repeat: NoRepeat = None,
    encoding: Encoding = "utf-8",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Summarize texts, each an argument or a line, from a model that was trained on texts and their summaries."""
    how = dict(beam=beam, n_best=n_best, length_penalty=length_penalty, min_tokens=min_tokens, max_tokens=max_tokens,
               no_repeat=no_repeat)  # fmt: skip
    _written("summarize", texts, model, how, encoding, dtype, json)


def _written(
    verb: str,
    texts: list[str],
    model: str | None,
    how: dict[str, Any],
    encoding: str,
    dtype: str | None,
    json: bool,
    languages: tuple[str | None, str | None] = (None, None),
) -> None:
    from vocablo import api

    loaded = api.load(model_path(model), dtype=dtype)
    asked = getattr(loaded, verb)
    if any(languages):
        loaded.language(*languages)  # type: ignore[union-attr]
    lines = _lines(texts, encoding)
    given = {name: value for name, value in how.items() if value is not None}
    if given.get("n_best", 1) > given.get("beam", 1) and "beam" not in given:
        given["beam"] = given["n_best"]
    found = asked(lines, **given)
    show.result(found[0] if json and len(found) == 1 else found, json, show_tasks.written)


def _lines(texts: list[str], encoding: str) -> list[str]:
    """The texts that are meant. Raises ConfigError, naming its line, for an empty one."""
    if texts == ["-"]:
        lines = [line.rstrip("\n") for line in sys.stdin]
    elif len(texts) == 1 and Path(texts[0]).is_file():
        from vocablo.data.readers import read_lines

        lines = list(read_lines(texts[0], encoding=encoding))
    else:
        return texts
    if not lines:
        raise ConfigError(f"{'Standard input' if texts == ['-'] else texts[0]} is empty: there is nothing to read.")
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise ConfigError(f"Line {empty[0]} is empty: there is nothing to read. Fill it, or take it out.")
    return lines
