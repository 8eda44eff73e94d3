"""Commands that ask a model about a text: next, score, perplexity, generate, attend."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vocablo.base.errors import ConfigError, DataError
from vocablo.cli import show
from vocablo.cli.arguments import fitting, model_path
from vocablo.cli.options import Column, Documents, Dtype, Encoding, Interpolate, Json, Model, Stride, Text, Weight

app = typer.Typer()


@app.command("next")
def next_(
    prompt: Annotated[str, typer.Argument(help="The words so far.")],
    model: Model = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    tokens: Annotated[bool, typer.Option("--tokens", help="Next tokens instead of next words.")] = False,
    among: Annotated[
        list[str] | None, typer.Option(help="Only these candidates, e.g. --among gato perro silla")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also draw the table into this HTML file.")] = None,
    interpolate: Interpolate = None,
    weight: Weight = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The most probable next words (or tokens), with their probabilities."""
    loaded = _asked(model, dtype, interpolate, weight)
    result = loaded.next_tokens(prompt, k=k) if tokens else loaded.next(prompt, k=k, among=among or None)
    show.result(result, json, show.next_table, html=html)


@app.command()
def score(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; - reads lines from standard input.")] = None,
    model: Model = None,
    text: Text = [],  # noqa: B006
    documents: Documents = "line",
    column: Column = None,
    encoding: Encoding = "utf-8",
    out: Annotated[Path | None, typer.Option(help="Write the scores into this .jsonl file, one object a line.")] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Encoders: token (Salazar) or word_l2r (Kauf and Ivanova); ELMo: both, forward or backward. [default: the first]"
        ),
    ] = None,
    convention: Annotated[
        str | None, typer.Option(help="vocablo (sums), or minicons (means, first token skipped). [default: vocablo]")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Include the probability that the text ends here.")] = False,
    stride: Stride = None,
    interpolate: Interpolate = None,
    weight: Weight = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The log-probability of texts: by the chain rule, an encoder's pseudo-log-likelihood, or ELMo's from both sides. Per token, word and text."""
    if bool(texts) == bool(text):
        raise DataError("There is nothing to score: give a text, or files with --text (not both)." if not texts else
                        "Texts and --text can't be scored together: give one of them.")  # fmt: skip
    lines = [line.rstrip("\n") for line in sys.stdin] if texts == ["-"] else list(texts or ())
    if not text and (not lines or not (end or any(lines))):
        raise DataError(
            "There is nothing to score: give a text. (Of a model that reads from the left, --end tells how probable it is that "
            "an empty one ends.)"
        )
    from vocablo import api

    asked = _asked(model, dtype, interpolate, weight)
    given = {"variant": variant, "convention": convention, "end": end or None, "stride": stride}
    if isinstance(asked, api.WritingModel):
        if text or len(lines) != 2:
            raise DataError("This model scores a target given a source: score SOURCE TARGET, two texts.")
        return show.scored(asked.score(lines[:1], lines[1:], **fitting(asked.score, given)), json, out, whole=True)
    if not text:
        results = asked.score(lines, **fitting(asked.score, given))
        return show.scored(results, json, out, whole=True)
    reading = {"documents": documents, "column": column, "encoding": encoding, "quiet": json}
    found = asked.score_files(text, **reading, **fitting(asked.score_files, given))
    return show.scored(found, json, out, whole=False)


@app.command()
def perplexity(
    text: Text,
    model: Model = None,
    documents: Documents = "file",
    column: Column = None,
    encoding: Encoding = "utf-8",
    stride: Stride = None,
    carry: Annotated[
        bool, typer.Option("--carry", help="Carry a recurrent or cache model's state across documents.")
    ] = False,
    interpolate: Interpolate = None,
    weight: Weight = None,
    weight_text: Annotated[
        list[str] | None, typer.Option(help="--interpolate: files under which the weight is to be the best one.")
    ] = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Perplexity per token and word, and bits per byte, of held-out text."""
    reading = dict(documents=documents, column=column, encoding=encoding, stride=stride, carry=carry, quiet=json)
    loaded = _asked(model, dtype, interpolate, weight, weight_text, reading)
    result = loaded.perplexity(text, **reading)
    show.result(result, json, show.likelihood)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")] = "",
    model: Model = None,
    max_tokens: Annotated[int, typer.Option(help="Stop after so many tokens.")] = 100,
    samples: Annotated[int, typer.Option("-n", "--samples", help="How many continuations.")] = 1,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the most probable token.")] = False,
    temperature: Annotated[float, typer.Option(help="Below 1 sharpens, above 1 flattens.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample among the k most probable.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample among the most probable that sum to p.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Sample among those at least so probable relative to the best.")
    ] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 discourages tokens already there.")] = 1.0,
    beam: Annotated[int, typer.Option(help="Search with so many hypotheses instead of sampling.")] = 1,
    n_best: Annotated[int, typer.Option(help="--beam: show so many of them, best first.")] = 1,
    length_penalty: Annotated[float, typer.Option(help="--beam: divide by length^alpha; 0 favours short texts.")] = 1.0,
    length_form: Annotated[str, typer.Option(help="--beam: power, or gnmt: ((5 + length) / 6)^alpha.")] = "power",
    groups: Annotated[int, typer.Option(help="--beam: groups that avoid one another's tokens (diverse beam).")] = 1,
    diversity: Annotated[float, typer.Option(help="--groups: how much they avoid them.")] = 0.5,
    min_tokens: Annotated[int, typer.Option(help="Don't end before so many tokens.")] = 0,
    no_repeat: Annotated[int, typer.Option(help="No sequence of so many tokens twice. [0: allowed]")] = 0,
    must: Annotated[list[str] | None, typer.Option(help="--beam: words or phrases that the text must have.")] = None,
    ban: Annotated[list[str] | None, typer.Option(help="Words or phrases that it may not have.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop at any of these strings.")] = None,
    window: Annotated[
        bool, typer.Option("--window", help="Past the context, go on with the last part of the text.")
    ] = False,
    interpolate: Interpolate = None,
    weight: Weight = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Continue a text until its end, streaming."""
    from vocablo import api

    loaded = _asked(model, dtype, interpolate, weight)
    written = loaded.generate  # refused here by a model that writes nothing
    options = dict(
        max_tokens=max_tokens, samples=samples, greedy=greedy, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        repetition_penalty=repetition_penalty, seed=seed, stop=tuple(stop or ()), window=window, beam=beam, n_best=n_best,
        length_penalty=length_penalty, length_form=length_form, groups=groups, diversity=diversity, min_tokens=min_tokens,
        no_repeat=no_repeat, include=tuple(must or ()), exclude=tuple(ban or ()),
    )  # fmt: skip
    if samples == 1 and beam == 1 and n_best == 1 and not json:
        pieces = loaded.stream(prompt, **options)
        if not isinstance(loaded, api.WritingModel):  # whose text isn't the prompt's
            typer.echo(prompt, nl=False)
        for piece in pieces:
            typer.echo(piece, nl=False)
            sys.stdout.flush()
        typer.echo()
        return
    show.result(written(prompt, **options), json, show.generations)


@app.command()
def attend(
    text: Annotated[str, typer.Argument(help="The text to read.")],
    second: Annotated[
        str | None,
        typer.Argument(
            help="Encoders: a second text, read in one sequence with it; of a model that translates, the target."
        ),
    ] = None,
    model: Model = None,
    layer: Annotated[int | None, typer.Option(help="Only this layer, from 1; -1 is the last. [default: all]")] = None,
    head: Annotated[int | None, typer.Option(help="Only this head, from 1. [default: all, and their mean]")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Draw all layers and heads, or the document, into this HTML file.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw what is printed into this SVG file.")] = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """How much each token looks at each other one, by layer and head; of han, what each word and sentence weighed."""
    from vocablo import api

    asked = api.load(model_path(model), dtype=dtype)
    given = {
        "second": second,
        "layers": None if layer is None else [layer],
        "heads": None if head is None else [head],
    }
    result = asked.attend(text, **fitting(asked.attend, given, {"layers": "--layer", "heads": "--head"}))
    if svg is not None:
        if not hasattr(result, "svg"):
            raise ConfigError("A document is drawn as HTML: give --html FILE.")
        show.into_file(svg, result.svg())
    show.result(result, json, show.attention, html=html)


def _asked(
    model: str | None,
    dtype: str | None,
    second: str | None,
    weight: float | None,
    text: list[str] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Any:
    """The model of ``--model``, or its mixture with that of ``--interpolate``."""
    from vocablo import api

    if second is None:
        if weight is not None or text:
            raise ConfigError("A weight is for two models: name the second one with --interpolate.")
        return api.load(model_path(model), dtype=dtype)
    first, other = (api.load(path, dtype=dtype) for path in (model_path(model), second))
    return api.interpolate(first, other, weight, text=text or None, **(reading or {}))
