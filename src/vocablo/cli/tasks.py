"""Commands of labelled tasks: finetune, and what a fine-tuned model is asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show, show_tasks
from vocablo.cli.arguments import model_path
from vocablo.cli.options import Dtype, Encoding, Json, Model

app = typer.Typer()

TextColumn = Annotated[str | None, typer.Option(help="The column of the text, or words. [default: text]")]
PairColumn = Annotated[str | None, typer.Option(help="The column of the second text of a pair. [default: none]")]
LabelColumn = Annotated[
    str | None, typer.Option(help="The column of the label, number or tags. [default: label; of CoNLL the last]")
]
IdColumn = Annotated[str | None, typer.Option(help="The column of the example's id. [default: its place, from 0]")]
Format = Annotated[str | None, typer.Option(help="table, glue:NAME (glue:cola), or a format of the task's own.")]


@app.command()
def finetune(
    task: Annotated[
        str, typer.Argument(help="classify, regress, tag, span, choose, translate, summarize or answer-text.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value, e.g. train.lr=3e-5 task.several=true read.context=128"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A model's folder or hub name, or FAMILY:SIZE for fresh weights."),
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="The examples to learn from; of two parallel files SOURCE,TARGET.")
    ] = None,
    dev: Annotated[str | None, typer.Option(help="Held-out examples. [default: a tenth of --train]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model; the run is kept in its run/.")] = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    choice_columns: Annotated[list[str] | None, typer.Option(help="The columns of the choices, of choose.")] = None,
    format: Format = None,
    encoding: Encoding = "utf-8",
    seeds: Annotated[int, typer.Option(min=1, help="So many runs, and their mean and deviation.")] = 1,
    grid: Annotated[str | None, typer.Option(help="bert: batch 16, 32; rate 5e-5, 3e-5, 2e-5; epochs 2, 3, 4.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Learn from this share of the examples.")] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the head alone.")] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="A BiLSTM on the frozen model's embeddings, last, second-to-last, weighted-last-4, concat-last-4 or weighted-all."
        ),
    ] = None,
    fresh_head: Annotated[bool, typer.Option("--fresh-head", help="A new head, whatever the folder has.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="A ready tokenizer's folder, for fresh weights.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="State memory and expected time; train nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="The same command again: go on where it was left.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune a model on labelled examples."""
    from vocablo import api

    if stray := [one for one in overrides or () if "=" not in one]:
        raise ConfigError(
            f"What is {stray[0]!r}? Files are given with --train and --dev, changes as section.key=value."
        )
    if model is None:
        raise ConfigError("Which model? Give --model with a folder, a hub's name, or FAMILY:SIZE for fresh weights.")
    if train is None:
        raise ConfigError("Which examples? Give --train FILE.")
    result = api.finetune(
        task, model=model, train=train, dev=dev, out=out,
        columns=_columns(text_column, pair_column, label_column, id_column, format, encoding, choice_columns),
        seeds=seeds, grid=grid, fraction=fraction, freeze=freeze, features=features, fresh_head=fresh_head,
        tokenizer=tokenizer, overrides=tuple(overrides or ()), dry_run=dry_run, resume=resume, quiet=json,
    )  # fmt: skip
    show.result(result, json, show_tasks.finetuned)


@app.command()
def classify(
    texts: Annotated[list[str], typer.Argument(help="Texts; - reads lines from standard input.")],
    pair: Annotated[str | None, typer.Option(help="The second text, of a model for pairs.")] = None,
    model: Model = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The label of texts, from a model that was fine-tuned to classify."""
    from vocablo import api

    lines = _lines(texts)
    found = api.load(model_path(model), dtype=dtype).classify(lines, None if pair is None else [pair] * len(lines))
    show.result(found[0] if len(found) == 1 else found, json, show_tasks.predictions)


@app.command()
def tag(
    texts: Annotated[list[str], typer.Argument(help="Sentences; - reads them from standard input, one a line.")],
    model: Model = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The tags of a sentence's words (entities, parts of speech), from a model that was fine-tuned to tag."""
    from vocablo import api

    found = api.load(model_path(model), dtype=dtype).tag(_lines(texts))
    show.result(found[0] if len(found) == 1 else found, json, show_tasks.tagged)


@app.command()
def answer(
    question: Annotated[str, typer.Argument(help="The question.")],
    context: Annotated[
        str | None, typer.Option(help="The text that has the answer; - reads it from standard input.")
    ] = None,
    context_file: Annotated[Path | None, typer.Option(help="A file with that text.")] = None,
    model: Model = None,
    encoding: Encoding = "utf-8",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The stretch of a text that answers a question, from a model that was fine-tuned on spans."""
    from vocablo import api
    from vocablo.data.readers import read_lines

    if (context is None) == (context_file is None):
        raise ConfigError("Where is the answer? Give --context TEXT or --context-file FILE, one of the two.")
    if context_file is not None:
        context = "\n".join(read_lines(context_file, encoding=encoding))
    elif context == "-":
        context = sys.stdin.read()
    show.result(api.load(model_path(model), dtype=dtype).answer(question, context or ""), json, show_tasks.answered)


@app.command()
def choose(
    text: Annotated[str, typer.Argument(help="The text.")],
    choices: Annotated[list[str] | None, typer.Option(help="The ways it may go on.")] = None,
    start: Annotated[str, typer.Option(help="Words that every choice goes on from.")] = "",
    model: Model = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Which of several ways a text goes on, from a model that was fine-tuned to choose."""
    from vocablo import api

    if not choices or len(choices) < 2:
        raise ConfigError('Between what? Give --choices "..." "...", two or more.')
    found = api.load(model_path(model), dtype=dtype).choose(text, choices, start=start)
    show.result(found, json, show_tasks.chosen)


@app.command()
def predict(
    file: Annotated[
        str,
        typer.Argument(help="A file of the model's task, or a text; - reads texts from standard input, one a line."),
    ],
    pair: Annotated[str | None, typer.Option(help="The second text, of a model for pairs.")] = None,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="Write the predictions here, in the task's official format.")] = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    id_column: IdColumn = None,
    choice_columns: Annotated[list[str] | None, typer.Option(help="The columns of the choices, of choose.")] = None,
    format: Format = None,
    encoding: Encoding = "utf-8",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """What a fine-tuned model predicts for the examples of a file, or (classes and numbers) for texts."""
    from vocablo import api

    asked = api.load(model_path(model), dtype=dtype)
    if out is not None and not Path(file).exists():
        raise ConfigError(f"There is no file {file}: --out is for the predictions of a file.")
    if not Path(file).exists() and (" " in file or pair is not None or file == "-"):
        lines = _lines([file])
        found = asked.predict(lines, None if pair is None else [pair] * len(lines))
    else:
        columns = _columns(text_column, pair_column, None, id_column, format, encoding, choice_columns)
        found = asked.predict_file(file, out, columns=columns, quiet=json)
    if out is not None and not json:
        return show.say(f"{len(found):,} predictions in {out}")
    show.result(found, json, show_tasks.predictions)


def _lines(texts: Sequence[str]) -> list[str]:
    if list(texts) != ["-"]:
        return list(texts)
    lines = [line.rstrip("\n") for line in sys.stdin]
    return [line for line in lines if line.strip()]


def _columns(
    text: str | None,
    pair: str | None,
    label: str | None,
    id: str | None,
    format: str | None,
    encoding: str,
    choices: Sequence[str] | None,
) -> dict[str, Any]:
    given = {
        "text": text, "pair": pair, "label": label, "id": id, "format": format, "encoding": encoding,
        "choices": tuple(choices) if choices else None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}
