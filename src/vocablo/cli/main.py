"""The commands: arguments in, the Python face called, the result shown. Torch is loaded only when a command needs it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from vocablo import __version__
from vocablo.base.errors import ConfigError, VocabloError
from vocablo.base.progress import tell
from vocablo.cli import ask, compare, encode, evaluate, lecture, probe, show, tables, tasks, write
from vocablo.cli.arguments import spread
from vocablo.cli.options import Column, Documents, Encoding, Json, Text

app = typer.Typer(
    name="vocablo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # of which [default: ...] is no tag, so that it is shown
    help="The language-model workbench: train from your own text, then ask for the next word, a score, a continuation.",
    epilog="Start with: vocablo demo",
)
INTERRUPTED = 130  # 128 + SIGINT, which typer returns as well
UsageError = typer.BadParameter.__mro__[1]  # typer doesn't export it
tokenizer_app = typer.Typer(no_args_is_help=True, help="Train a tokenizer, or look into one.")
recipe_app = typer.Typer(no_args_is_help=True, help="List the recipes, or show one whole.")
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(recipe_app, name="recipe")
app.add_typer(ask.app)
app.add_typer(encode.app)
app.add_typer(evaluate.app)
app.add_typer(compare.app)
app.add_typer(tasks.app)
app.add_typer(write.app)
app.add_typer(probe.app)
app.add_typer(tables.app)
app.add_typer(lecture.app)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the models and report.html go.")] = Path("demo"),
    sentences: Annotated[int, typer.Option(min=2000, help="Sentences to train on.")] = 60_000,
    seconds: Annotated[float, typer.Option(min=1, help="Training time of each neural model.")] = 55.0,
    size: Annotated[
        str, typer.Option(help="The Transformer's size: tiny, mini, small, medium, base or large.")
    ] = "tiny",
    seed: Annotated[int, typer.Option(help="Seed of the corpus and of the models.")] = 0,
) -> None:
    """Train an n-gram, an LSTM and a Transformer on the embedded Spanish corpus and compare them with its true optimum."""
    from vocablo import demo as room

    room.run(out, sentences=sentences, seconds=seconds, size=size, seed=seed, say=show.say)


@app.command()
def corpus(
    sentences: Annotated[int | None, typer.Option(min=1, help="How many sentences. [default: 10000]")] = None,
    seed: Annotated[int, typer.Option(help="Seed: sentence i of a seed is always the same.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A file, one sentence a line. [default: standard output]")] = None,
    reviews: Annotated[
        int | None,
        typer.Option(min=1, help="Instead, so many labelled reviews of hotels: a .csv, .tsv or .jsonl file."),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=1, help="Instead, so many sentences in Spanish with their English: a .csv file.")
    ] = None,
    matches: Annotated[int | None, typer.Option(min=1, help="The same of news of football matches.")] = None,
) -> None:
    """Write text of the embedded Spanish grammar, whose exact probabilities are known; or labelled reviews of hotels, or translated sentences."""
    from itertools import islice

    from vocablo.base import files
    from vocablo.data.grammar import Grammar

    given = {"--sentences": sentences, "--reviews": reviews, "--pairs": pairs, "--matches": matches}
    if len(several := [name for name, count in given.items() if count is not None]) > 1:
        raise ConfigError(f"{' and '.join(several)} can't be used together: a file has one kind of text.")
    if reviews is not None:
        return _reviews(reviews, seed, out)
    if pairs is not None:
        return _pairs(pairs, seed, out)
    if matches is not None:
        return _pairs(matches, seed, out, "match_pairs")
    sentences = sentences or 10000
    lines = islice(Grammar().text(seed, sentences), sentences)
    if out is None:
        for line in lines:
            typer.echo(line)
    else:
        files.write_text(out, "".join(line + "\n" for line in lines))
        show.say(f"{sentences:,} sentences in {out}")


def _reviews(count: int, seed: int, out: Path | None) -> None:
    from vocablo.data import reviews as room

    made = room.reviews(count, seed)
    if out is None:
        return typer.echo(room.table(made, ".csv"), nl=False)
    room.write(out, made)
    show.say(f"{count:,} reviews in {out}")


def _pairs(count: int, seed: int, out: Path | None, kind: str = "sentence_pairs") -> None:
    from importlib import import_module

    from vocablo.data import sentence_pairs as room

    made = import_module(f"vocablo.data.{kind}").pairs(count, seed)
    if out is None:
        return typer.echo(room.table(made), nl=False)
    room.write(out, made)
    show.say(f"{count:,} pairs in {out}")


@tokenizer_app.command("train")
def tokenizer_train(
    text: Text,
    out: Annotated[Path, typer.Option(help="Folder for tokenizer.json.")],
    kind: Annotated[str, typer.Option(help="char, byte, word, bpe, wordpiece or unigram.")] = "bpe",
    vocab: Annotated[
        int | None,
        typer.Option(
            help="Vocabulary size. [default: all words or characters; up to 8000 pieces, of wordpiece up to 16000 from 20M "
            "characters of text on and 30000 from 200M on]"
        ),
    ] = None,
    min_count: Annotated[int, typer.Option(help="Words or pieces seen less often are left out.")] = 1,
    lowercase: Annotated[bool, typer.Option(help="Lower-case the text (accents and ñ stay).")] = False,
    documents: Documents = "line",
    column: Column = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Train a tokenizer from text."""
    from vocablo import api

    result = api.train_tokenizer(
        text, out, kind=kind, vocab=vocab, min_count=min_count, lowercase=lowercase,
        documents=documents, column=column, encoding=encoding,
    )  # fmt: skip
    show.result(result, json, show.tokenizer_report)


@tokenizer_app.command("show")
def tokenizer_show(
    folder: Annotated[str, typer.Argument(help="A tokenizer's or model's folder, or a tokenizer.json.")],
    sentence: Annotated[str | None, typer.Argument(help="Text to split.")] = None,
    json: Json = False,
) -> None:
    """Show a tokenizer: what it is, and how it splits a text."""
    from vocablo import api

    show.result(api.show_tokenizer(folder, sentence), json, show.tokenizer_report)


@app.command()
def pretrain(
    family: Annotated[str, typer.Argument(help="The kind of model: see `vocablo recipe list`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, e.g. train.lr=3e-4 model.stack.layers=6")
    ] = None,
    text: Text = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder for the model; the run is kept in its run/.")] = None,
    size: Annotated[str | None, typer.Option(help="tiny, mini, small, medium, base or large.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe's name or TOML file. [default: FAMILY, or with --from FAMILY-continued]"),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option("--from", help="Train this model further: a folder or hub name. [default: fresh weights]"),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A ready tokenizer's folder. [default: train one from the text]")
    ] = None,
    documents: Annotated[str | None, typer.Option(help="What one document is: file, line or paragraph.")] = None,
    column: Column = None,
    encoding: Annotated[
        str | None, typer.Option(help="The text's encoding; auto takes the detected one and names it.")
    ] = None,
    validation_text: Annotated[
        list[str] | None, typer.Option(help="Held-out text. [default: the last part of the text]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train for about this long (turned into a step count once, at the start).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train for this many optimizer steps.")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option(help="One run for each seed, and their mean and deviation.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="State parameters, tokens, memory and expected time; train nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")] = False,
    json: Json = False,
) -> None:
    """Train a model from your own text."""
    from vocablo import api

    if stray := [one for one in overrides or () if "=" not in one]:
        raise ConfigError(f"What is {stray[0]!r}? Text is given with --text, and changes as section.key=value.")
    changes = {
        "text": text or None,
        "validation_text": validation_text or None,
        "documents": documents,
        "column": column,
        "encoding": encoding,
    }
    result = api.pretrain(
        family, out=out, size=size, recipe=recipe, init_from=init_from, tokenizer=tokenizer, data=changes,
        minutes=minutes, steps=steps, seeds=tuple(seeds or ()), overrides=tuple(overrides or ()), dry_run=dry_run,
        resume=resume, quiet=json,
    )  # fmt: skip
    show.result(result, json, show.pretrain_result)


@app.command()
def info(
    folder: Annotated[str, typer.Argument(help="A model's folder, an .arpa file, or a hub name.")],
    json: Json = False,
) -> None:
    """What a model folder holds: family, sizes, parameters, tokenizer, how it was trained."""
    from vocablo import api

    show.result(api.describe(folder), json, show.description)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="The folder of an n-gram model, or of word vectors.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="OUT.arpa or OUT.arpa.gz; for word vectors OUT.vec or .txt (word2vec), .bin, .glove (GloVe)."
        ),
    ],
    json: Json = False,
) -> None:
    """Write a model as a file that others and --model read: an n-gram as ARPA, word vectors as word2vec or GloVe do."""
    from vocablo import api

    show.result(api.export(model, out, quiet=json), json, show.description)


@recipe_app.command("list")
def recipe_list(json: Json = False) -> None:
    """The families and sizes that `pretrain` knows, and the named recipes."""
    from vocablo import api

    show.result(api.recipes(), json, show.recipe_list)


@recipe_app.command("show")
def recipe_show(name: Annotated[str, typer.Argument(help="A recipe's name.")]) -> None:
    """A recipe's text."""
    from vocablo import api

    typer.echo(api.recipe_text(name), nl=False)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"vocablo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: whatever a user can put right is one line on standard error and exit code 2."""
    warnings.showwarning = lambda message, *_, **__: tell(" ".join(str(message).split()))  # without a line of code
    try:
        code = app(args=spread(sys.argv[1:]), standalone_mode=False) or 0
        _leave("interrupted" if code == INTERRUPTED else "", code)
    except VocabloError as error:
        _leave(str(error), getattr(error, "exit_code", 2))
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "vocablo"
        message = error.format_message().rstrip(".")  # empty: the help was shown, for want of a command
        _leave(f"{message}. See `{command} --help`." if message else "", 2)
    except (KeyboardInterrupt, typer.Abort):
        _leave("interrupted", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _leave(f"{error.filename or 'the system'}: {error.strerror or error}.", 2)


def _leave(message: str, code: int) -> None:
    if message:
        print(f"vocablo: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
