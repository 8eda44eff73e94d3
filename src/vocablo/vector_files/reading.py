"""Files of word vectors as others write them, read into the family ``word_vectors`` and a tokenizer of their words.

    word2vec text, fastText .vec    "V D", then a line "word x1 .. xD" for each word
    word2vec binary                 "V D", then for each word its letters, a space and D float32 (little-endian)
    GloVe text                      the lines alone
    fastText .bin                   see ``fasttext.py``

What a file is, is told from its first bytes, not from its name; .gz is unpacked. A header that lies, rows of several widths,
numbers that aren't finite and a file that ends early are refused with the line or word where it shows.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.base.errors import CheckpointError
from vocablo.base.progress import Progress, tell
from vocablo.models.word_vectors import Config, WordVectors, build
from vocablo.text.tokenizer import Tokenizer
from vocablo.vector_files import fasttext

Floats = NDArray[np.float32]
GZIP = b"\x1f\x8b"
WIDEST = 1 << 16
PEEK = 1 << 16
TEXT, BINARY, GLOVE, FASTTEXT = "word2vec text", "word2vec binary", "GloVe text", "fastText binary"


@dataclass(frozen=True, slots=True)
class Found:
    """A file's words and vectors [V, D], and its format."""

    words: list[str]
    vectors: Floats
    format: str


def is_vectors(path: str | Path) -> bool:
    """Whether a file begins as one of word vectors does."""
    place = Path(path)
    return place.is_file() and _format(_head(place)) is not None


def read(
    path: str | Path, *, vocabulary: str | Path | None = None, quiet: bool = True
) -> tuple[WordVectors, Tokenizer]:
    """The vectors of a file and a tokenizer that splits at white space and knows its words.

    ``vocabulary``: a file that has the same words, one a line (a count may follow), as word2vec's -save-vocab writes.
    Raises CheckpointError for a file that isn't what its beginning says, or a vocabulary of other words.
    """
    found = load(path, quiet=quiet)
    if vocabulary is not None:
        _check_vocabulary(found, Path(vocabulary), path)
    tokenizer = Tokenizer.of_words([word for word in found.words if word not in ("<end>", "<unk>")])
    ids = [tokenizer.id(word) for word in found.words]
    config = Config(
        vocab=tokenizer.size,
        width=found.vectors.shape[1],
        kind=None,
        boundary=tokenizer.end_id,
        unknown=tokenizer.unk_id,
    )
    model = build(config)
    model.vectors.zero_()
    model.vectors[torch.tensor(ids)] = torch.from_numpy(found.vectors)
    return model.eval(), tokenizer


def load(path: str | Path, *, quiet: bool = True) -> Found:
    """The words and vectors of a file. A word that comes again is left out, and told; so are letters that aren't UTF-8."""
    place = Path(path)
    if not place.is_file():
        raise CheckpointError(f"There is no file {path}.")
    kind = _format(_head(place))
    if kind is None:
        raise CheckpointError(
            f"{path} isn't a file of word vectors: word2vec's (text or binary), GloVe's or fastText's."
        )
    data = place.read_bytes()
    if data[:2] == GZIP:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): copy or download it again.") from None
    with Progress("reading vectors", len(data), "bytes", quiet=quiet) as progress:
        if kind == FASTTEXT:
            words, vectors = fasttext.vectors(data, str(path))
        else:
            words, vectors = (_binary if kind == BINARY else _text)(data, str(path), progress)
    if not np.isfinite(vectors).all():
        row = int(np.argwhere(~np.isfinite(vectors))[0, 0])
        raise CheckpointError(f"{path}: the vector of {_shown(words[row])} has a number that isn't finite.")
    return _unique(words, vectors, kind, path)


def _head(path: Path) -> bytes:
    """The first bytes, unpacked. Nothing of a file that can't be unpacked."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read(PEEK)
    except (OSError, EOFError):
        return b""


def _format(head: bytes) -> str | None:
    if head.startswith(fasttext.MAGIC):
        return FASTTEXT
    first, _, rest = head.partition(b"\n")
    header = _header(first)
    if header is not None:
        _, _, values = rest.lstrip(b"\n").partition(b"\n")[0].strip().partition(b" ")
        return TEXT if _is_text(values) else BINARY
    fields = first.split()
    return GLOVE if len(fields) > 2 and _numbers(b" ".join(fields[1:])) is not None else None


def _header(line: bytes) -> tuple[int, int] | None:
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _is_text(values: bytes) -> bool:
    """Whether the first number behind a word is written in digits: a binary one hardly ever is."""
    return bool(values) and _numbers(values.split(b" ")[0]) is not None


def _numbers(values: bytes) -> Floats | None:
    """The numbers in a text, or None if it has something else too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns where it stops in the middle
        try:
            return np.fromstring(values, dtype=np.float32, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


def _text(data: bytes, path: str, progress: Progress) -> tuple[list[bytes], Floats]:
    lines = _lines(data)
    number, line = next(lines)
    header = _header(line)
    width = None if header is None else header[1]
    count = None if header is None else header[0]
    words: list[bytes] = []
    rows: list[Floats] = []
    if header is None:
        lines = _lines(data)
    for number, line in lines:
        word, row = _row(line, width, f"{path}, line {number}")
        width = len(row)
        words.append(word)
        rows.append(row)
        progress.advance(len(line) + 1)
    if count is not None and count != len(words):
        raise CheckpointError(f"{path}: its header says {count:,} words, and {len(words):,} follow.")
    if not words:
        raise CheckpointError(f"{path} has no vectors.")
    return words, np.stack(rows)


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that aren't empty, with their numbers from 1."""
    begin, number = 0, 0
    while begin < len(data):
        end = data.find(b"\n", begin)
        end = len(data) if end < 0 else end
        number += 1
        line = data[begin:end].rstrip()
        begin = end + 1
        if line:
            yield number, line


def _row(line: bytes, width: int | None, where: str) -> tuple[bytes, Floats]:
    """A word and its vector; a word may have spaces, but none that reads as another number."""
    fields = line.split(b" ")
    length = len(fields) - 1 if width is None else width
    word, values = fields[: len(fields) - length], fields[len(fields) - length :]
    row = _numbers(b" ".join(values)) if word and len(values) == length else None
    if row is None or len(row) != length or (len(word) > 1 and _numbers(word[-1]) is not None and word[-1]):
        count = len(fields) - 1
        wrong = "a word and numbers" if count == length else f"{length} numbers, and there are {count}"
        raise CheckpointError(f"{where} ({_shown(fields[0])}): there should be {wrong}.")
    return b" ".join(word), row


def _binary(data: bytes, path: str, progress: Progress) -> tuple[list[bytes], Floats]:
    at = data.index(b"\n") + 1
    header = _header(data[: at - 1])
    assert header is not None
    count, width = header
    if not 0 < width <= WIDEST:
        raise CheckpointError(f"{path}: its header says vectors of {width} numbers.")
    size = 4 * width
    if count * (size + 2) > len(data) - at + 1:  # a word has a letter and a space at least
        raise CheckpointError(
            f"{path}: its header says {count:,} words of {width} numbers, and the file has {len(data):,} bytes, which is less."
        )
    words: list[bytes] = []
    vectors = np.empty((count, width), dtype=np.float32)
    for row in range(count):
        while data[at : at + 1] == b"\n":
            at += 1
        end = data.find(b" ", at)
        if end < 0 or end + 1 + size > len(data):
            raise CheckpointError(
                f"{path}: its header says {count:,} words of {width} numbers, and it ends in word {row + 1:,}."
            )
        words.append(data[at:end])
        vectors[row] = np.frombuffer(data, dtype="<f4", count=width, offset=end + 1)
        at = end + 1 + size
        progress.advance(size)
    if data[at:].strip():
        raise CheckpointError(f"{path}: its header says {count:,} words of {width} numbers, and more follows them.")
    return words, vectors


def _unique(words: list[bytes], vectors: Floats, kind: str, path: str | Path) -> Found:
    first: dict[str, int] = {}
    broken = 0
    for row, word in enumerate(words):
        text = word.decode("utf-8", errors="replace")
        broken += "\ufffd" in text
        first.setdefault(text, row)
    if broken:
        tell(f"{path}: {broken:,} words have letters that aren't UTF-8; they are shown as \ufffd.")
    if len(first) < len(words):
        tell(
            f"{path}: {len(words) - len(first):,} of {len(words):,} words come again; the first vector of each is taken."
        )
        vectors = vectors[list(first.values())]
    return Found(list(first), vectors, kind)


def _check_vocabulary(found: Found, path: Path, vectors: str | Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"There is no vocabulary file {path}.")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    named = [line.split()[0] for line in lines if line.strip()]
    missing, unknown = set(found.words) - set(named), set(named) - set(found.words)
    if missing or unknown:
        example = sorted(missing or unknown)[0]
        raise CheckpointError(
            f"{path} isn't the vocabulary of {vectors}: {len(missing):,} of its {len(found.words):,} words aren't there and "
            f"{len(unknown):,} others are, such as {example!r}."
        )


def _shown(word: bytes) -> str:
    return repr(word.decode("utf-8", errors="replace")[:40])
