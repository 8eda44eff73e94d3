"""Commands that ask an encoder: fill, embed, neighbors, similarity, next-sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vocablo.base.errors import ConfigError
from vocablo.cli import show
from vocablo.cli.arguments import fitting, model_path
from vocablo.cli.options import Column, Documents, Dtype, Encoding, Json, Model, Text

app = typer.Typer()

Pooling = Annotated[
    str | None, typer.Option(help="cls, mean, max or pooler. [default: what the folder says, else mean]")
]
Layers = Annotated[
    str | None, typer.Option(help="Layers to take and join, e.g. -1 or -1,-2; 0 is the embeddings. [default: -1]")
]
Normalize = Annotated[bool | None, typer.Option("--normalize/--no-normalize", help="Vectors of length 1.")]
Window = Annotated[bool | None, typer.Option("--window", help="Texts over the limit: the mean of their parts.")]
Truncate = Annotated[bool | None, typer.Option("--truncate", help="Texts over the limit: cut, and counted.")]


@app.command()
def fill(
    text: Annotated[str, typer.Argument(help='A text with one mask or several, e.g. "El [MASK] duerme".')],
    model: Model = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 5,
    words: Annotated[
        bool, typer.Option("--words", help="Leave out pieces of words, punctuation, special tokens.")
    ] = False,
    among: Annotated[list[str] | None, typer.Option(help="Only these candidates, of any number of tokens.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also draw the answers into this HTML file.")] = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """What stands behind a mask, with probabilities; several masks alone and together."""
    from vocablo import api

    result = api.load(model_path(model), dtype=dtype).fill(text, k=k, words=words, among=among or None)
    show.result(result, json, show.filled, html=html)


@app.command()
def embed(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; or files with --text.")] = None,
    model: Model = None,
    text: Text = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Where the vectors go: .npy, .jsonl or .parquet.")] = None,
    pooling: Pooling = None,
    layers: Layers = None,
    normalize: Normalize = None,
    window: Window = None,
    truncate: Truncate = None,
    documents: Documents = "line",
    column: Column = None,
    encoding: Encoding = "utf-8",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """A vector for each text, from an encoder's layers."""
    from vocablo import api

    given = {
        "pooling": pooling, "layers": numbers(layers), "normalize": normalize, "window": window, "truncate": truncate
    }  # fmt: skip
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if bool(texts) == bool(text):
        raise ConfigError("Give texts, or files with --text and --out; one of the two.")
    if text and out is None:
        raise ConfigError("Vectors of files go into a file: name it with --out vectors.npy (or .jsonl, .parquet).")
    asked = api.load(model_path(model), dtype=dtype)
    if isinstance(asked, api.WordModel):
        settings = fitting(asked.embed, settings)
    if out is None:
        drawn = show.word_embeddings if isinstance(asked, api.WordModel) else show.embeddings
        return show.result(asked.embed(texts or [], **settings), json, drawn)
    reading = {"documents": documents, "column": column, "encoding": encoding, "quiet": json}
    if texts:
        return show.result(asked.embed_texts(texts, out, quiet=json, **settings), json, show.description)
    return show.result(asked.embed_files(text, out, **reading, **settings), json, show.description)


@app.command()
def neighbors(
    sentence: Annotated[
        str, typer.Argument(help='A sentence, e.g. "Saqué dinero del banco"; of word vectors, a word.')
    ],
    word: Annotated[str | None, typer.Argument(help="Encoders: the word of it that is asked about.")] = None,
    text: Text = [],  # noqa: B006
    model: Model = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    layers: Layers = None,
    occurrence: Annotated[int | None, typer.Option(help="Which one, when the word stands there several times.")] = None,
    same: Annotated[bool, typer.Option("--same", help="Only occurrences of the same word.")] = False,
    documents: Documents = "line",
    column: Column = None,
    encoding: Encoding = "utf-8",
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The words nearest to a word: in context, searched in files of sentences (encoders), or by their vectors alone."""
    from vocablo import api

    asked: Any = api.load(model_path(model), dtype=dtype)
    neighbors = asked.neighbors
    if isinstance(asked, api.WordModel):
        given = {"word": word, "text": text or None, "layers": layers, "occurrence": occurrence, "same": same or None}
        if unused := [name for name, value in given.items() if value is not None]:
            raise ConfigError(
                f"{unused[0]} is for encoders: a word's vector is the same everywhere; give one word alone."
            )
        return show.result(neighbors(sentence, k=k), json, show.near_words)
    if word is None or not text:
        raise ConfigError(
            "Which word of the sentence, and among which texts? Give a sentence, one of its words, and --text."
        )
    result = neighbors(
        sentence, word, text, k=k, layers=numbers(layers) or (-1,), occurrence=occurrence, same=same,
        documents=documents, column=column, encoding=encoding, quiet=json,
    )  # fmt: skip
    show.result(result, json, show.neighbors)


@app.command()
def analogy(
    first: Annotated[str, typer.Argument(help="hombre")],
    second: Annotated[str, typer.Argument(help="is to this one: rey")],
    third: Annotated[str, typer.Argument(help="as this one: mujer")],
    model: Model = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 5,
    json: Json = False,
) -> None:
    """Word vectors: the words that are to the third as the second is to the first."""
    from vocablo import api

    show.result(api.load(model_path(model)).analogy(first, second, third, k=k), json, show.analogy)


@app.command()
def similarity(
    first: Annotated[str, typer.Argument(help="A text.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    model: Model = None,
    word: Annotated[str | None, typer.Option(help="Compare this word in the two contexts instead.")] = None,
    pooling: Pooling = None,
    layers: Layers = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """The cosine of the vectors of two texts, or of a word in both."""
    from vocablo import api

    given = {"pooling": pooling, "layers": numbers(layers)}
    asked = api.load(model_path(model), dtype=dtype)
    result = asked.similarity(first, second, **fitting(asked.similarity, {"word": word, **given}))
    show.result(result, json, lambda value: f"{value.cosine:.4f}")


@app.command("next-sentence")
def next_sentence(
    first: Annotated[str, typer.Argument(help="A sentence.")],
    second: Annotated[str, typer.Argument(help="Does it follow?")],
    model: Model = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """How probable it is that the second sentence follows the first."""
    from vocablo import api

    result = api.load(model_path(model), dtype=dtype).next_sentence(first, second)
    show.result(result, json, lambda value: f"{value.prob:.4f}")


def numbers(text: str | None) -> tuple[int, ...] | None:
    """``-1,-2`` -> (-1, -2)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"Layers are numbers, such as -1 or -1,-2; got {text!r}.") from None
