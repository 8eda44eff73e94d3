"""(n-gram model, tokenizer) -> ARPA file."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.arpa.names import BLOCK, END, ENDINGS, LN10, NEVER, START, UNKNOWN, is_arpa
from vocablo.base.errors import ConfigError
from vocablo.base.files import replacing
from vocablo.models.ngram import NGram
from vocablo.text.tokenizer import Tokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def write(path: str | Path, model: Any, tokenizer: Tokenizer) -> None:
    """Write an n-gram model as an ARPA file, compressed where the path ends in ``.gz``; whole or not at all.

    Raises ConfigError for another family, a path of another name, or tokens that an ARPA file can't hold. A cache isn't
    written: the format has none.
    """
    if not is_arpa(path):
        raise ConfigError(f"{path} should end in {' or '.join(ENDINGS)}.")
    if not isinstance(model, NGram):
        raise ConfigError(
            f"Only n-grams can be written as an ARPA file, and this model is a {type(model).__name__}: "
            "`vocablo pretrain ngram` makes one from the same text."
        )
    if not model.entries:
        raise ConfigError("The model is empty: fit it to a text first.")
    names = _names(model, tokenizer)
    if model.config.cache.length:
        warnings.warn("An ARPA file has no cache: the file holds the model without it.", stacklevel=2)
    with replacing(Path(path)) as temporary, temporary.open("wb") as raw:
        packed = str(path).endswith(".gz")
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw as file:  # without a name and a time
            for text in _texts(model, names):
                file.write(text.encode())


def _names(model: NGram, tokenizer: Tokenizer) -> list[str]:
    """What each token is called in the file."""
    if tokenizer.size != model.vocab or tokenizer.end_id != model.config.boundary:
        raise ConfigError(
            f"The tokenizer ({tokenizer.size} tokens, boundary {tokenizer.end_id}) and the model ({model.vocab}, "
            f"{model.config.boundary}) don't belong together."
        )
    names = list(tokenizer.vocabulary)
    if tokenizer.unk_id is not None and names[tokenizer.unk_id] not in UNKNOWN:
        names[tokenizer.unk_id] = UNKNOWN[0]
    names[model.config.boundary] = END
    for name in names:
        if len(name.encode().split()) != 1 or name.encode().split()[0] != name.encode():
            raise ConfigError(
                f"The token {name!r} has white space or is empty, and an ARPA file is split at white space."
            )
    twice = next((name for name in (START, END, *UNKNOWN) if (name == START) + names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"The vocabulary has a token {twice!r} of its own, which means something else in ARPA files.")
    return names


def _texts(model: NGram, names: list[str]) -> Iterator[str]:
    """The file, piece by piece."""
    boundary, vocab, order = model.config.boundary, model.vocab, model.config.order
    spelled, closed = list(names), np.zeros(vocab, dtype=bool)
    spelled[boundary] = START
    following = [f" {name}" for name in names]
    levels: list[tuple[list[str], Ints]] = [(list(names), np.arange(vocab))]
    for k in range(2, order + 1):
        parents, last = np.divmod(model.table("keys", k).numpy(), vocab)
        texts = map(str.__add__, map(spelled.__getitem__, parents.tolist()), map(following.__getitem__, last.tolist()))
        spelled = list(texts)
        inside = closed[parents]  # an n-gram that goes on after </s>: documents that had a boundary inside
        closed = inside | (last == boundary)
        levels.append((spelled, np.flatnonzero(~inside)))
    counts = [len(kept) + (k == 1) for k, (_, kept) in enumerate(levels, 1)]
    yield "\\data\\\n" + "".join(f"ngram {k}={count}\n" for k, count in enumerate(counts, 1))
    for k, (spelled, kept) in enumerate(levels, 1):
        yield f"\n\\{k}-grams:\n"
        rests = _log10(model.table("log_rest", k)) if k < order else None
        if k == 1:
            yield f"{NEVER:g}\t{START}" + ("" if rests is None else f"\t{rests[boundary]:.7g}") + "\n"
            if rests is not None:
                rests[boundary] = 0
        yield from _formatted(spelled, kept, _log10(model.table("log_probs", k)), rests)
    yield "\n\\end\\\n"


def _log10(table: torch.Tensor) -> Floats:
    return table.double().numpy() / LN10 + 0.0  # no -0


def _formatted(spelled: list[str], kept: Ints, log_probs: Floats, rests: Floats | None) -> Iterator[str]:
    """One line for each n-gram; formatted a block at a time, which is several times faster than one by one."""
    fields = 2 if rests is None else 3
    form = "%.7g\t%s\n" if rests is None else "%.7g\t%s\t%.7g\n"
    for begin in range(0, len(kept), BLOCK):
        part = kept[begin : begin + BLOCK]
        values: list[Any] = [None] * (fields * len(part))
        values[::fields] = log_probs[part].tolist()
        values[1::fields] = [spelled[place] for place in part.tolist()]
        if rests is not None:
            values[2::fields] = rests[part].tolist()
        yield form * len(part) % tuple(values)
