"""Rows: where in a store's tokens the sequences of a pretext lie, how they are shared out, and how they become a batch.

A row is a start and a length in tokens. The stream is read as a ring: behind its last token comes the first one.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.contract import Fences, Tokens
from vocablo.data.workers import SENTENCE
from vocablo.text.templates import Frame

Ints = NDArray[np.int64]


class Stream(Protocol):
    """What is read of a token store; ``data.store.Store`` is one."""

    tokens: NDArray[Any]  # [N] unsigned integers, usually a memory map
    documents: Ints  # [documents + 1] token starts, from 0 to N

    @property
    def end_id(self) -> int:
        """The boundary behind every document."""
        ...


class MarkedStream(Stream, Protocol):
    """A stream that knows its sentences."""

    marks: NDArray[np.uint8]  # [N]: bits of ``data.workers``


def ceil(amount: int, size: int) -> int:
    """How many pieces of ``size`` hold ``amount``."""
    return -(-amount // size)


@dataclass(frozen=True, slots=True)
class Spans:
    """B rows: where in the ring each begins, and how many tokens it has."""

    starts: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, at: Ints | slice) -> Spans:
        """Some of the rows, in that order."""
        return Spans(self.starts[at], self.lengths[at])


def windows(total: int, size: int, offset: int) -> Spans:
    """The ring of ``total`` tokens cut from ``offset`` on; all rows have ``size`` tokens but for the last."""
    starts = np.arange(0, total, size, dtype=np.int64)
    return Spans(starts + offset, np.minimum(size, total - starts))


def pieces(starts: Ints, stops: Ints, size: int) -> Spans:
    """Spans of the stream, each cut into pieces of at most ``size``; empty spans have none."""
    starts, stops = np.asarray(starts, dtype=np.int64), np.asarray(stops, dtype=np.int64)
    parts = -(-(stops - starts) // size)
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    begin = np.repeat(starts, parts) + number * size
    return Spans(begin, np.minimum(size, np.repeat(stops, parts) - begin))


@dataclass(frozen=True, slots=True)
class Sentences:
    """Every sentence of a store without the boundaries between documents, and which of them a document has.

    starts, stops [S]: in tokens; first, end [D]: the sentences of every document that has any.
    """

    starts: Ints
    stops: Ints
    first: Ints
    end: Ints

    @classmethod
    def of(cls, store: MarkedStream) -> Sentences:
        """Read from the marks of a store; a document's first token always begins a sentence."""
        documents = np.asarray(store.documents, dtype=np.int64)
        begins, ends = documents[:-1], documents[1:] - 1
        begins, ends = begins[begins < ends], ends[begins < ends]
        starts = np.union1d(np.flatnonzero(store.marks & SENTENCE), begins)
        first = np.searchsorted(starts, begins)
        end = np.append(first[1:], len(starts))
        stops = np.append(starts[1:], 0)
        stops[end - 1] = ends
        return cls(starts, stops, first, end)


def shares(count: int, micro: int, rank: int, world: int) -> list[slice]:
    """The rows of a step that ``rank`` works on, up to ``micro`` at a time: contiguous, and equal up to one row."""
    size, longer = divmod(count, world)
    begin = rank * size + min(rank, longer)
    end = begin + size + (rank < longer)
    return [slice(at, min(at + micro, end)) for at in range(begin, end, micro)]


def spread(count: int, micro: int, rank: int, world: int, batches: int | None) -> list[slice]:
    """The rows of a whole pass, ranks taking turns; with ``batches`` only so many of each rank, evenly spread."""
    chunks: Sequence[int] = range(rank * micro, count, world * micro)
    if batches is not None and batches < len(chunks):
        chunks = [chunks[number * len(chunks) // batches] for number in range(batches)]
    return [slice(at, min(at + micro, count)) for at in chunks]


@dataclass(frozen=True, slots=True)
class Flat:
    """The tokens of a batch, all rows joined, [n] each, and ``lengths`` [B]; ``segments`` None when all are 0."""

    ids: Ints
    positions: Ints
    segments: Ints | None
    lengths: Ints

    @property
    def starts(self) -> Ints:
        """[B]: where every row begins."""
        return np.cumsum(self.lengths) - self.lengths

    def tokens(self, ids: Ints | None = None) -> Tokens:
        """As a model reads it, or with other ids in the place of these."""
        segments = None if self.segments is None else torch.from_numpy(self.segments)
        shown = torch.from_numpy(self.ids if ids is None else ids)
        return Tokens(shown, Fences.of(self.lengths.tolist()), torch.from_numpy(self.positions), segments)


def framed(store: Stream, frame: Frame, *texts: tuple[Ints, Ints]) -> Flat:
    """Rows of one text or two (starts and lengths), with the frame's special tokens around them."""
    starts: list[Any] = []  # of every piece of a row: a text's starts, or 0 for a special token
    sizes: list[Any] = []
    kinds: list[int] = []
    constants: list[int | None] = []  # the special token, None for a text
    for number, (ids, segments) in enumerate(zip(frame.specials, frame.special_segments, strict=True)):
        pieces: list[tuple[Any, Any, int, int | None]] = [
            (0, 1, kind, index) for index, kind in zip(ids, segments, strict=True)
        ]
        if number < len(texts):
            pieces.append((*texts[number], frame.segments[number], None))
        for start, size, kind, index in pieces:
            starts.append(start)
            sizes.append(size)
            kinds.append(kind)
            constants.append(index)
    rows, columns = len(texts[0][0]), len(constants)
    table = np.stack([np.broadcast_to(size, rows) for size in sizes], axis=1).astype(np.int64)  # [B, pieces]
    places = np.stack([np.broadcast_to(start, rows) for start in starts], axis=1).ravel()
    lengths, flat = table.sum(axis=1), table.ravel()
    begins = np.cumsum(flat) - flat
    index = np.arange(flat.sum())
    positions = index - np.repeat(np.cumsum(lengths) - lengths, lengths)
    index += np.repeat(places - begins, flat)
    ids = store.tokens[index % len(store.tokens)].astype(np.int64)
    for column, constant in enumerate(constants):
        if constant is not None:
            ids[begins[column::columns]] = constant
    return Flat(ids, positions, np.repeat(np.tile(kinds, rows), flat) if any(kinds) else None, lengths)


def crc32(tokens: NDArray[Any], chunk: int = 1 << 24) -> int:
    """A checksum of a store's tokens."""
    value = 0
    for begin in range(0, len(tokens), chunk):
        value = zlib.crc32(tokens[begin : begin + chunk].tobytes(), value)
    return value
