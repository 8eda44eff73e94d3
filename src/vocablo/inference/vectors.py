"""Vectors of a whole file, as they come: read, embedded and written by the window, so that only one window is in memory.

``.npy`` holds the vectors alone [B, W], float32; ``.jsonl`` one object a line with ``text`` and ``vector``; ``.parquet``
columns of these names. Files are whole or absent.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vocablo.base.errors import ConfigError, nearest
from vocablo.base.files import replacing
from vocablo.base.progress import Progress
from vocablo.inference.embed import Embedder, Vectors
from vocablo.inference.score import grouped

HEADER = 128  # bytes of a .npy header; room for any number of rows


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file of vectors that was written: ``texts`` of them, ``width`` numbers each, from ``tokens`` tokens."""

    out: Path
    texts: int
    width: int
    tokens: int
    pooling: str
    layers: tuple[int, ...]
    normalize: bool
    truncated: int
    windowed: int


class Sink(Protocol):
    """Where vectors go."""

    def write(self, texts: Sequence[str], vectors: Vectors) -> None: ...

    def close(self) -> None: ...


class _Npy:
    """The header is written last, when the number of rows is known, in the room that was left for it."""

    def __init__(self, path: Path) -> None:
        self.file, self.rows, self.width = path.open("wb"), 0, 0
        self.file.write(bytes(HEADER))

    def write(self, texts: Sequence[str], vectors: Vectors) -> None:
        self.rows, self.width = self.rows + len(vectors), vectors.shape[1]
        self.file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())

    def close(self) -> None:
        said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self.rows}, {self.width}), }}"
        size = HEADER - 10
        self.file.seek(0)
        self.file.write(b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + said.ljust(size - 1).encode() + b"\n")
        self.file.close()


class _Jsonl:
    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")

    def write(self, texts: Sequence[str], vectors: Vectors) -> None:
        for text, vector in zip(texts, vectors.tolist(), strict=True):
            self.file.write(json.dumps({"text": text, "vector": vector}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self.file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: Any = None

    def write(self, texts: Sequence[str], vectors: Vectors) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = pa.array(vectors.ravel(), type=pa.float32())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.table({"text": pa.array(list(texts), type=pa.string()), "vector": column})
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


SINKS = {".npy": _Npy, ".jsonl": _Jsonl, ".parquet": _Parquet}


def check_out(out: Path) -> None:
    """Raise ConfigError for a name whose format isn't known, or needs a package that isn't there."""
    if out.suffix not in SINKS:
        raise ConfigError(f"Vectors aren't written as {out.suffix or out.name!r}{nearest(out.suffix, SINKS)}")
    if out.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("Parquet files need pyarrow: pip install 'vocablo[parquet]', or write .npy or .jsonl.")


def write_vectors(embedder: Embedder, texts: Iterable[str], out: Path, *, quiet: bool = True) -> VectorFile:
    """Embed texts into a file, whole or absent; the texts of one window are read in the order of their lengths."""
    check_out(out)
    count = width = 0
    with (
        replacing(out) as temporary,
        _closing(SINKS[out.suffix](temporary)) as sink,
        Progress("embedding", None, "texts", quiet=quiet) as progress,
    ):
        for some in grouped(texts):
            vectors = embedder.embed(some)
            sink.write(some, vectors)
            count, width = count + len(some), vectors.shape[1]
            progress.advance(len(some))
    settings = embedder.settings
    how = (settings.pooling, embedder.layers, settings.normalize)
    return VectorFile(out, count, width, embedder.tokens, *how, embedder.truncated, embedder.windowed)


@contextlib.contextmanager
def _closing(sink: Sink) -> Iterator[Sink]:
    try:
        yield sink
    finally:
        sink.close()
