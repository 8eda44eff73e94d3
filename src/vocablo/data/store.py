"""The token store: a corpus as numbers on disk, mapped into memory, so that it may be larger than memory.

A folder of ``tokens.bin`` (uint16, or uint32 for more than 65,536 tokens), ``marks.bin`` (uint8), ``documents.npy``,
``sizes.npy``, ``widths.npy`` and ``meta.json``. It is whole or absent, and is used again when neither the texts, nor
the tokenizer, nor the options have changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from mmap import mmap
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.files import replacing, require_space, sweep
from vocablo.base.progress import Progress
from vocablo.data.readers import Document, Sources, find_files, read_documents
from vocablo.data.workers import SENTENCE, WORD, Section, code
from vocablo.text.bulk import BulkEncoder
from vocablo.text.tokenizer import Tokenizer

FORMAT = 1
_PARALLEL = 32 << 20  # bytes of text from which on more processes pay for their start
_BATCH = 1 << 20  # characters given to a process at once


@dataclass(frozen=True, slots=True)
class Counts:
    """How much text there is. ``tokens`` counts the boundary behind every document; nothing else does.

    ``words`` are those between white space, ``bytes`` those of the text in UTF-8, ``unknown`` the unknown tokens.
    """

    documents: int
    sentences: int
    words: int
    tokens: int
    characters: int
    bytes: int
    unknown: int


class Store:
    """The tokens of a corpus, or of a part of one.

    tokens [N] uint16 or uint32, with the boundary token behind every document; documents [D + 1] int64, where each
    begins; marks [N] uint8, whose bits say that a word (1), sentence (2) or document (4) begins at the token.
    """

    def __init__(
        self,
        tokens: NDArray[Any],
        documents: NDArray[np.int64],
        marks: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        widths: NDArray[np.int32],
        meta: dict[str, Any],
        counts: Counts | None = None,
    ) -> None:
        self.tokens, self.documents, self.marks, self.meta = tokens, documents, marks, meta
        # sizes [D, 5]: sentences, words, characters, bytes, unknown of every document; widths [V, 2]: characters and
        # bytes of every token. A part of a document is counted by the tokens' widths.
        self._sizes, self._widths = sizes, widths
        if counts is None:
            sentences, words, characters, size, unknown = (int(total) for total in sizes.sum(axis=0))
            counts = Counts(len(documents) - 1, sentences, words, len(tokens), characters, size, unknown)
        self.counts = counts

    @classmethod
    def build(
        cls,
        sources: Sources,
        tokenizer: Tokenizer,
        folder: str | Path,
        *,
        documents: str = "file",
        column: str | None = None,
        encoding: str = "utf-8",
        workers: int | None = None,
        quiet: bool = False,
    ) -> Store:
        """Tokenize texts into ``folder``; a store there that was made of the same texts in the same way is opened.

        For ``documents``, ``column`` and ``encoding`` see ``read_documents``. Raises DataError for texts that can't be
        used or when the folder holds something else, StorageError before work when the disk is too full.
        """
        folder = Path(folder)
        files = find_files(sources)
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        options = {"documents": documents, "column": column, "encoding": encoding}
        key = [FORMAT, tokenizer.hash, tokenizer.end_id, tokenizer.unk_id, options, stats]
        fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        sweep(folder.parent)
        _refuse_other(folder)
        with contextlib.suppress(DataError):
            store = cls.open(folder)
            if store.meta["fingerprint"] == fingerprint:
                return store
        total = sum(size for _, size, _ in stats)
        notes: list[str] = []
        with Progress("tokenizing", total, "bytes", quiet=quiet) as progress:
            found = read_documents(
                files,
                documents=documents,
                column=column,
                encoding=encoding,
                notes=notes.append,
                advance=progress.advance,
            )
            require_space(folder, _estimate(files, tokenizer), "The token store")
            more = {"fingerprint": fingerprint, "options": options, "sources": stats, "notes": notes}
            workers = workers or (min(8, _cores()) if total >= _PARALLEL else 1)
            _write(folder, (document.text for document in found), tokenizer, more, workers)
        return cls.open(folder)

    @classmethod
    def from_documents(
        cls, documents: Iterable[str | Document], tokenizer: Tokenizer, folder: str | Path | None = None
    ) -> Store:
        """A store of texts at hand, in memory, or in ``folder`` when one is named."""
        texts = (document if isinstance(document, str) else document.text for document in documents)
        more: dict[str, Any] = {"fingerprint": "", "options": {}, "sources": [], "notes": []}
        if folder is not None:
            _refuse_other(Path(folder))
            _write(Path(folder), texts, tokenizer, more, 1)
            return cls.open(folder)
        held = BytesIO(), BytesIO()
        writer = _Writer(tokenizer, *held)
        writer.write(texts, 1)
        tokens = np.frombuffer(held[0].getvalue(), dtype=writer.dtype)
        marks = np.frombuffer(held[1].getvalue(), dtype=np.uint8)
        return cls(tokens, writer.starts(), marks, writer.sizes(), _widths(tokenizer), writer.meta(more))

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """Map a store into memory. Raises DataError when there is none, or one that is damaged or of another format."""
        folder = Path(folder)
        meta = _meta(folder)
        try:
            documents, sizes, widths = (np.load(folder / f"{name}.npy") for name in ("documents", "sizes", "widths"))
            kind, count = np.dtype(meta["dtype"]), int(meta["tokens"])
            lengths = [(folder / name).stat().st_size for name in ("tokens.bin", "marks.bin")]
        except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
            raise DataError(
                f"The token store {folder} is damaged ({error}): remove it, and it will be made again."
            ) from None
        whole = lengths == [count * kind.itemsize, count] and len(sizes) + 1 == len(documents) > 1
        if not whole or documents[-1] != count:
            raise DataError(f"The token store {folder} is cut short: remove it, and it will be made again.")
        tokens = np.memmap(folder / "tokens.bin", dtype=kind, mode="r")
        marks = np.memmap(folder / "marks.bin", dtype=np.uint8, mode="r")
        return cls(tokens, documents, marks, sizes, widths, meta)

    def __len__(self) -> int:
        """N."""
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Store({self.counts.documents:,} documents, {self.counts.tokens:,} tokens of {self.vocab:,})"

    @property
    def tokenizer_hash(self) -> str:
        """``Tokenizer.hash`` of the tokenizer that made the tokens."""
        return self.meta["tokenizer"]

    @property
    def vocab(self) -> int:
        """V of that tokenizer."""
        return self.meta["vocab"]

    @property
    def end_id(self) -> int:
        """The boundary behind every document."""
        return self.meta["end"]

    @property
    def notes(self) -> list[str]:
        """What the readers had to say about the files: encodings taken, empty files left out."""
        return self.meta["notes"]

    def part(self, first: int, last: int) -> Store:
        """The documents ``first`` to ``last`` (not included) as a store of its own, with its exact counts."""
        if not 0 <= first < last <= self.counts.documents:
            raise DataError(
                f"There are no documents {first} to {last}: the store has {self.counts.documents} (counted from 0)."
            )
        start, stop = int(self.documents[first]), int(self.documents[last])
        return Store(
            self.tokens[start:stop],
            self.documents[first : last + 1] - start,
            self.marks[start:stop],
            self._sizes[first:last],
            self._widths,
            self.meta,
        )

    def span(self, start: int, stop: int) -> Store:
        """The tokens ``start`` to ``stop`` (not included), which may begin and end within a document.

        A span that ends within a document has the boundary in the place of its last token. Its counts are those of the
        tokens' own text: exact where tokens keep their white space (char, byte, bpe, unigram); for word and wordpiece,
        with one space between words and ``<unk>`` counted as its own name.
        """
        if not 0 <= start < stop <= len(self):
            raise DataError(f"There are no tokens {start} to {stop}: the store has {len(self)} (counted from 0).")
        tokens, marks = _ended(self.tokens, start, stop, self.end_id), _ended(self.marks, start, stop, 0)
        inside = self.documents[(self.documents > start) & (self.documents < stop)] - start
        documents = np.concatenate([[0], inside, [stop - start]])
        sizes = np.stack([self._measure(tokens[a:b], marks[a:b]) for a, b in itertools.pairwise(documents)])
        return Store(tokens, documents, marks, sizes, self._widths, self.meta)

    def _measure(self, tokens: NDArray[Any], marks: NDArray[np.uint8]) -> NDArray[np.int64]:
        used = np.bincount(tokens, minlength=len(self._widths))
        characters, size = used @ self._widths
        words = int(np.count_nonzero(marks & WORD))
        if self.meta["apart"]:
            characters, size = characters + words, size + words
        unknown = self.meta["unknown"]
        return np.array(
            [
                np.count_nonzero(marks & SENTENCE),
                words,
                characters,
                size,
                0 if unknown is None else used[unknown],
            ],
            dtype=np.int64,
        )


class _Writer:
    """Adds documents to two growing files, and remembers where each begins and how large it is."""

    def __init__(self, tokenizer: Tokenizer, tokens: IO[bytes], marks: IO[bytes]) -> None:
        if tokenizer.end_id is None:
            raise ConfigError(
                "The tokenizer has no token for the end of a document (such as <end>, </s> or [SEP]): "
                "name it as eos_token in tokenizer_config.json beside tokenizer.json."
            )
        self.tokenizer, self._bulk = tokenizer, BulkEncoder(tokenizer)
        self.dtype = self._bulk.dtype
        self._tokens, self._marks = tokens, marks
        self._starts = array("q", [0])
        self._sizes = array("q")

    def write(self, texts: Iterable[str], workers: int) -> None:
        """Tokenize and write documents, with so many processes."""
        # The batches that are in work, to know which sections end a document.
        ahead: deque[list[Section]] = deque()

        def batches() -> Iterator[list[Section]]:
            for batch in _batches(self._sections(texts)):
                ahead.append(batch)
                yield batch

        whole = np.zeros(6, dtype=np.int64)
        for coded in code(batches(), self.tokenizer, workers):
            self._tokens.write(coded.ids)
            self._marks.write(coded.marks)
            for section, sizes in zip(ahead.popleft(), coded.sizes, strict=True):
                whole += sizes
                if section.ends:
                    self._starts.append(self._starts[-1] + int(whole[0]))
                    self._sizes.extend(whole[1:].tolist())
                    whole[:] = 0

    def _sections(self, texts: Iterable[str]) -> Iterator[Section]:
        for text in texts:
            parts = list(self._bulk.sections(text))
            for number, part in enumerate(parts):
                yield Section(part, number == 0, number == len(parts) - 1)

    def starts(self) -> NDArray[np.int64]:
        """[D + 1]."""
        return np.array(self._starts, dtype=np.int64)

    def sizes(self) -> NDArray[np.int64]:
        """[D, 5]."""
        return np.array(self._sizes, dtype=np.int64).reshape(-1, 5)

    def meta(self, more: dict[str, Any]) -> dict[str, Any]:
        """What ``meta.json`` says. Raises DataError when there was no document."""
        if len(self._starts) == 1:
            raise DataError("There are no documents to make a store of.")
        tokenizer = self.tokenizer
        return {
            "format": FORMAT,
            "tokenizer": tokenizer.hash,
            "vocab": tokenizer.size,
            "end": tokenizer.end_id,
            "unknown": tokenizer.unk_id,
            "apart": _apart(tokenizer),
            "dtype": self.dtype.name,
            "tokens": self._starts[-1],
        } | more

    def finish(self, folder: Path, more: dict[str, Any]) -> None:
        """Write what isn't written yet, ``meta.json`` with the counts last."""
        meta = self.meta(more)
        np.save(folder / "documents.npy", self.starts())
        np.save(folder / "sizes.npy", self.sizes())
        np.save(folder / "widths.npy", _widths(self.tokenizer))
        sentences, words, characters, size, unknown = (int(total) for total in self.sizes().sum(axis=0))
        counts = Counts(len(self._starts) - 1, sentences, words, self._starts[-1], characters, size, unknown)
        meta["counts"] = asdict(counts)
        (folder / "meta.json").write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write(folder: Path, texts: Iterable[str], tokenizer: Tokenizer, more: dict[str, Any], workers: int) -> None:
    with replacing(folder) as temporary:
        temporary.mkdir()
        with (temporary / "tokens.bin").open("wb") as tokens, (temporary / "marks.bin").open("wb") as marks:
            writer = _Writer(tokenizer, tokens, marks)
            writer.write(texts, workers)
        writer.finish(temporary, more)


def _batches(sections: Iterable[Section]) -> Iterator[list[Section]]:
    held: list[Section] = []
    size = 0
    for section in sections:
        held.append(section)
        size += len(section.text)
        if size >= _BATCH:
            yield held
            held, size = [], 0
    if held:
        yield held


def _ended(values: NDArray[Any], start: int, stop: int, last: int) -> NDArray[Any]:
    """``values[start:stop]`` with ``last`` at its end. Of a memory map only that one page is copied."""
    if values[stop - 1] == last:
        return values[start:stop]
    if isinstance(values, np.memmap) and values.filename is not None and isinstance(values.base, mmap):
        place = values.offset + start * values.itemsize
        part: NDArray[Any] = np.memmap(values.filename, values.dtype, mode="c", offset=place, shape=(stop - start,))
    else:
        part = values[start:stop].copy()
    part[-1] = last
    return part


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _widths(tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Characters and bytes of every token, [V, 2]; a boundary has none."""
    special = tokenizer.special_ids - {tokenizer.unk_id}
    data = [b"" if index in special else item for index, item in enumerate(tokenizer.token_bytes)]
    if tokenizer.unk_id is not None and not _apart(tokenizer):
        data[tokenizer.unk_id] = b"?"  # what was there is lost, but for most tokenizers it was one character
    characters = [sum(byte & 0xC0 != 0x80 for byte in item) for item in data]
    return np.array(list(zip(characters, map(len, data), strict=True)), dtype=np.int32).reshape(-1, 2)


def _apart(tokenizer: Tokenizer) -> bool:
    """Whether its tokens have lost the white space between them."""
    return tokenizer.spelling in ("words", "wordpiece")


def _meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        kind = meta["format"]
    except FileNotFoundError:
        raise DataError(f"There is no token store in {folder}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The token store {folder} is damaged ({error}): remove it, and it will be made again."
        ) from None
    if kind != FORMAT:
        raise DataError(
            f"The token store {folder} is of format {kind}, and this version reads {FORMAT}: make it again."
        )
    return meta


def _refuse_other(folder: Path) -> None:
    """Raise DataError when ``folder`` is something that building a store would destroy."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "tokens.bin").is_file()):
        raise DataError(f"{folder} holds something that isn't a token store: choose another folder.")


def _estimate(files: list[Path], tokenizer: Tokenizer) -> int:
    """Bytes that a store of these files will take, at most in ordinary text."""
    packed = sum(file.stat().st_size * (4 if file.suffix in (".gz", ".xz") else 1) for file in files)
    per_token = (2 if tokenizer.size <= 2**16 else 4) + 1
    return int(packed * per_token * (1.0 if tokenizer.kind in ("char", "byte") else 0.45))
