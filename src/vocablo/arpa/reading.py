"""ARPA file -> (n-gram model, word tokenizer). Some thousand lines go through at a time."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.arpa.names import BLOCK, END, LN10, START, UNKNOWN, UNSEEN
from vocablo.base.errors import CheckpointError
from vocablo.models.ngram import NOTHING, Config, NGram
from vocablo.text.tokenizer import Tokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPACE = np.isin(np.arange(256), list(b" \t\n\r\x0b\x0c"))  # as bytes.split() has it


def entries(path: str | Path) -> tuple[int, ...]:
    """How many n-grams of each order the file's header promises; nothing else is read. Raises CheckpointError."""
    with _opened(Path(path)) as lines:
        return _header(lines)[0]


def read(path: str | Path) -> tuple[NGram, Tokenizer]:
    """The model of an ARPA file, and a tokenizer of its words that splits at white space.

    Raises CheckpointError, with the line, for a file that isn't one, breaks off, or holds what can't be read.
    """
    sections: list[_Section] = []
    with _opened(Path(path)) as lines:
        counts, line = _header(lines)
        index, tokenizer = None, None
        for k, count in enumerate(counts, 1):
            if line.strip() != b"\\%d-grams:" % k:
                raise lines.error(f"'\\{k}-grams:' is expected here")
            first = lines.section = lines.number + 1
            section, names = _section(lines, k, len(counts), count, index)
            if index is None:
                tokenizer = _tokenizer(names, lines, first)
                index = _index(names, tokenizer)
                section.ids[:, 0] = [index[name] for name in names]
            sections.append(section)
            line = lines.after_blanks()
            if line and not line.startswith(b"\\"):
                raise lines.error(f"the header promises {count} {k}-grams, and here is one more")
        if line.strip() != b"\\end\\":
            raise lines.error("'\\end\\' is expected after the last n-gram")
    assert tokenizer is not None, "a header has unigrams"
    return _model(sections[0], sections[1:], tokenizer, lines), tokenizer


class _Lines:
    """The lines of a file with their numbers, so that errors can name them."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.number = path, file, 0
        self.section = 0  # the first line of the section that is being read

    def next(self) -> bytes:
        """The next line; empty at the end of the file."""
        self.number += 1
        return self.file.readline()

    def after_blanks(self) -> bytes:
        """The next line that isn't blank; empty at the end of the file."""
        while (line := self.next()) and not line.strip():
            pass
        return line

    def take(self, count: int) -> list[bytes]:
        """So many lines, or as many as there are."""
        found = list(islice(self.file, count))
        self.number += len(found)
        return found

    def error(self, message: str, line: int | None = None) -> CheckpointError:
        return CheckpointError(f"{self.path}, line {line or self.number}: {message}.")


@contextmanager
def _opened(path: Path) -> Iterator[_Lines]:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if packed else raw as file:
                yield _Lines(path, file)  # type: ignore[arg-type]
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CheckpointError(f"{path} is damaged or can't be read: {error}.") from None


def _header(lines: _Lines) -> tuple[tuple[int, ...], bytes]:
    """The counts, and the first line after them. Anything may stand before \\data\\."""
    while (line := lines.next()).strip() != b"\\data\\":
        if not line:
            raise lines.error("this isn't an ARPA file: it has no line '\\data\\'", 1)
    counts: list[int] = []
    while (line := lines.after_blanks()) and not line.startswith(b"\\"):
        found = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line.strip())
        if found is None or int(found[1]) != len(counts) + 1:
            raise lines.error(f"'ngram {len(counts) + 1}=COUNT' or '\\1-grams:' is expected here")
        counts.append(int(found[2]))
    if not counts:
        raise lines.error("'ngram 1=COUNT' is expected after '\\data\\'")
    limit = Config.model_fields["order"].metadata[-1].le
    if len(counts) > limit:
        raise lines.error(f"the file has n-grams of {len(counts)} orders, and at most {limit} can be read")
    return tuple(counts), line


class _Index(dict[bytes, int]):
    """The id of every word as the file spells it, -1 for other words. <s> has an id of its own, V."""

    def __missing__(self, word: bytes) -> int:
        return NOTHING


@dataclass(frozen=True, slots=True)
class _Section:
    """The k-grams of a file: ids [n, k], natural logarithms [n] of probability and back-off weight, lines [n]."""

    ids: Ints
    log_probs: Floats
    log_rests: Floats
    lines: Ints


def _tokenizer(names: Sequence[bytes], lines: _Lines, first: int) -> Tokenizer:
    """A tokenizer of the unigrams: the boundary, the unknown word, then the others in the file's order."""
    words: dict[str, None] = {}
    for number, name in enumerate(names, first):
        try:
            word = name.decode()
        except UnicodeDecodeError:
            raise lines.error(f"the word {name!r} isn't UTF-8: convert the file to UTF-8", number) from None
        if word in words:
            raise lines.error(f"the word {word!r} is among the 1-grams twice", number)
        words[word] = None
    for marker in (START, END):
        if marker not in words:
            raise lines.error(f"the 1-grams lack {marker!r}, so the file can't say where sentences begin and end")
    unknown = next((name for name in UNKNOWN if name in words), UNKNOWN[0])
    others = [word for word in words if word not in (START, END, unknown)]
    boundary = END if "<end>" in words else "<end>"
    return Tokenizer.of_words(others, specials={"end": boundary, "unk": unknown})


def _index(names: Sequence[bytes], tokenizer: Tokenizer) -> _Index:
    ids = {word: number for number, word in enumerate(tokenizer.vocabulary)}
    index = _Index({name: ids.get(name.decode(), NOTHING) for name in names})
    index[END.encode()], index[START.encode()] = ids[tokenizer.specials["end"]], tokenizer.size
    return index


def _section(lines: _Lines, k: int, orders: int, count: int, index: _Index | None) -> tuple[_Section, list[bytes]]:
    """The k-grams, and for unigrams (no ``index`` yet: ids are 0) their words."""
    parts = [_Section(np.zeros((0, k), np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.int64))]
    names, done = [], 0
    while done < count:
        block = lines.take(min(count - done, BLOCK))
        promise = f"the header promises {count} {k}-grams"
        if not block:
            raise lines.error(f"{promise}, and the file ends after {done}", lines.number + 1)
        rows = _Rows.of(lines, block, k, f"{promise}, and here they end after")
        log_probs = rows.numbers(rows.places)
        rows.refuse(log_probs > 0, lambda at: "log10 p is over 0, so p over 1")
        log_rests = np.zeros(len(block))
        if k < orders:
            weighed = rows.sizes == k + 2
            log_rests[weighed] = rows.numbers(rows.places + k + 1, weighed)
        ids = np.zeros((len(block), k), np.int64)
        if index is None:
            names += [rows.fields[place] for place in (rows.places + 1).tolist()]
        else:
            ids = rows.ids(k, index)
        parts.append(_Section(ids, log_probs * LN10, log_rests * LN10, rows.first + np.arange(len(block))))
        done += len(block)
    columns = zip(*((part.ids, part.log_probs, part.log_rests, part.lines) for part in parts), strict=True)
    return _Section(*map(np.concatenate, columns)), names


@dataclass(frozen=True, slots=True)
class _Rows:
    """Lines of n-grams as one list of fields, split at once: where each line's begin, how many it has.

    A list for each line would take twice as long, most of it the garbage collector's.
    """

    lines: _Lines
    first: int  # the number of the first line
    fields: list[bytes]
    places: Ints
    sizes: Ints

    @classmethod
    def of(cls, lines: _Lines, block: list[bytes], k: int, ending: str) -> _Rows:
        """Fields of lines that have log10 p, k words, and perhaps a back-off weight."""
        text = b"".join(block)
        space = SPACE[np.frombuffer(text, np.uint8)]
        begins = ~space
        begins[1:] &= space[:-1]
        ends = np.cumsum(np.fromiter(map(len, block), np.int64, len(block)))
        sizes = np.diff(np.cumsum(begins, dtype=np.int64)[ends - 1], prepend=0)
        rows = cls(lines, lines.number - len(block) + 1, text.split(), np.cumsum(sizes) - sizes, sizes)
        wrong = (sizes != k + 1) & (sizes != k + 2)
        rows.refuse(
            wrong & ((sizes == 0) | np.fromiter((line.startswith(b"\\") for line in block), bool, len(block))),
            lambda at: f"{ending} {rows.first + at - lines.section}",
        )
        rows.refuse(wrong, lambda at: (
            f"a line of this section has log10 p, {k} word{'s' * (k > 1)} and, if need be, a back-off weight: "
            f"{k + 1} or {k + 2} fields, and this one has {sizes[at]}"
        ))  # fmt: skip
        return rows

    def refuse(self, wrong: NDArray[np.bool_], message: Callable[[int], str]) -> None:
        """Raise CheckpointError for the first line that is marked."""
        if wrong.any():
            at = int(wrong.argmax())
            raise self.lines.error(message(at), self.first + at)

    def numbers(self, places: Ints, which: NDArray[np.bool_] | None = None) -> Floats:
        """The fields at ``places``, one of each line (or of some), as numbers."""
        texts = [self.fields[place] for place in (places if which is None else places[which]).tolist()]
        try:
            found = np.fromiter(map(float, texts), np.float64, len(texts))
        except ValueError:
            found = np.array([_number(text) for text in texts])
        wrong = np.zeros(len(places), dtype=bool)
        wrong[slice(None) if which is None else which] = ~np.isfinite(found)
        self.refuse(wrong, lambda at: f"a number is expected and not {_shown(self.fields[places[at]])}")
        return found

    def ids(self, k: int, index: _Index) -> Ints:
        """The ids of the words, [n, k]."""
        wanted = (self.places[:, None] + np.arange(1, k + 1)).ravel()
        words = map(self.fields.__getitem__, wanted.tolist())
        ids = np.fromiter(map(index.__getitem__, words), np.int64, len(wanted)).reshape(-1, k)
        self.refuse(
            (ids == NOTHING).any(1),
            lambda at: (
                f"the word {_shown(self.fields[self.places[at] + 1 + int((ids[at] == NOTHING).argmax())])} "
                "isn't among the 1-grams"
            ),
        )
        return ids


def _shown(field: bytes) -> str:
    return repr(field.decode(errors="replace"))


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _reachable(section: _Section, vocab: int, end: int) -> _Section:
    """Without the n-grams that have <s> or </s> inside; <s> (V, until here) becomes the boundary."""
    inside = (section.ids[:, 1:] == vocab).any(1) | (section.ids[:, :-1] == end).any(1)
    ids = np.where(section.ids == vocab, end, section.ids)
    return _Section(ids[~inside], section.log_probs[~inside], section.log_rests[~inside], section.lines[~inside])


def _model(unigrams: _Section, longer: list[_Section], tokenizer: Tokenizer, lines: _Lines) -> NGram:
    """The tables: n-grams are numbered order by order from their first words on, as ``models.ngram`` does."""
    vocab, order = tokenizer.size, len(longer) + 1
    assert tokenizer.end_id is not None
    end = tokenizer.end_id
    longer = [_reachable(section, vocab, end) for section in longer]
    log_probs, log_rests = np.full(vocab, UNSEEN * LN10), np.zeros(vocab)
    words = unigrams.ids[:, 0] < vocab
    log_probs[unigrams.ids[words, 0]] = unigrams.log_probs[words]
    log_rests[unigrams.ids[words, 0]] = unigrams.log_rests[words]
    log_rests[end] = unigrams.log_rests[~words][0]
    keys, tables = [np.arange(vocab)], [(log_probs, log_rests)]
    nodes = [section.ids[:, 0] for section in longer]  # the number of the first words of each n-gram
    for k in range(2, order + 1):
        section, rest = longer[k - 2], longer[k - 2 :]
        wanted = [node * vocab + one.ids[:, k - 1] for node, one in zip(nodes[k - 2 :], rest, strict=True)]
        found, inverse = np.unique(np.concatenate(wanted), return_inverse=True)
        nodes[k - 2 :] = np.split(inverse, np.cumsum([len(part) for part in wanted])[:-1])
        own = nodes[k - 2]
        if np.bincount(own, minlength=1).max() > 1:
            again = np.setdiff1d(np.arange(len(own)), np.unique(own, return_index=True)[1])[0]
            raise lines.error(f"this {k}-gram is in the file twice", int(section.lines[again]))
        log_probs, log_rests = np.full(len(found), np.nan), np.zeros(len(found))
        log_probs[own], log_rests[own] = section.log_probs, section.log_rests
        keys.append(found)
        tables.append((log_probs, log_rests))
    return _filled(Config(vocab=vocab, order=order, boundary=end, entries=tuple(map(len, keys))), keys, tables)


def _filled(config: Config, keys: list[Ints], tables: list[tuple[Floats, Floats]]) -> NGram:
    """A model with these tables; where a probability isn't a number, that of the definition, from the orders below."""
    model = NGram(config).eval()
    for k in range(2, config.order + 1):
        model.table("keys", k).copy_(torch.from_numpy(keys[k - 1]))
    for k, (log_probs, log_rests) in enumerate(tables, 1):
        missing = np.flatnonzero(np.isnan(log_probs))
        if len(missing):
            words = _words(keys, k, missing)
            history = np.full((len(missing), model.width), NOTHING)
            history[:, model.width - k + 2 :] = words[:, 1:-1]
            at, ids = torch.arange(len(missing)), torch.from_numpy(words[:, -1].copy())
            shorter = model.target_log_probs(torch.from_numpy(history), at, ids).double().numpy()
            log_probs[missing] = tables[k - 2][1][keys[k - 1][missing] // config.vocab] + shorter
        model.table("log_probs", k).copy_(torch.from_numpy(log_probs))
        if k < config.order:
            model.table("log_rest", k).copy_(torch.from_numpy(log_rests))
    return model


def _words(keys: list[Ints], k: int, numbers: Ints) -> Ints:
    """The ids [n, k] of k-grams by their numbers."""
    words, vocab = np.zeros((len(numbers), k), np.int64), len(keys[0])
    for j in range(k, 1, -1):
        numbers, words[:, j - 1] = np.divmod(keys[j - 1][numbers], vocab)
    words[:, 0] = numbers
    return words
