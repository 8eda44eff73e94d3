"""Readers: files, folders and globs to documents, with every doubt about a file told and none decided in silence.

A *document* is a file, a line, a paragraph (``documents=``), or a row of a JSONL, CSV or TSV file. Files ending in .gz
or .xz are unpacked on the way. Line ends (``\\r\\n``, ``\\r``) are read as ``\\n``, and a byte-order mark is taken as
the encoding's name and left out, as Python does; nothing else of a text is changed. Lines and paragraphs that are
empty, and the line ends around them, are what separates documents and no part of them.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import glob
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.data import encodings

UNITS = ("file", "line", "paragraph")
_PACKED = {".gz": gzip.open, ".xz": lzma.open}
_TABLES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_BLOCK = 1 << 20
_FIRST = 1 << 16  # what is looked at of every file before work starts

Sources = str | Path | Sequence[str | Path]
Tell = Callable[[str], None]
Check = Callable[[Iterable[str]], None]


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it comes from: a path, with the line or row after a colon."""

    text: str
    source: str


def find_files(sources: Sources) -> list[Path]:
    """The files that paths, folders (all that isn't hidden, sorted) and globs name, each once, in the order given.

    Raises DataError, naming the nearest existing name, when one names nothing.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not sources:
        raise DataError("No text was given: name a file, a folder or a pattern such as 'texts/*.txt'.")
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
            if not inside:
                raise DataError(f"The folder {path} has no files.")
        elif path.exists():
            inside = [path]
        elif glob.has_magic(str(path)):
            inside = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
            if not inside:
                raise DataError(f"No file matches {source}.")
        else:
            raise DataError(f"There is no file or folder {source}{_near(path)}")
        found |= dict.fromkeys(inside)
    return list(found)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _near(path: Path) -> str:
    parent = path.parent
    while not parent.exists():
        path, parent = parent, parent.parent
    hint = nearest(path.name, [file.name for file in parent.iterdir() if not file.name.startswith(".")])
    return hint.partition(" Known:")[0] if "did you mean" in hint else "."


def read_documents(
    sources: Sources,
    *,
    documents: str = "file",
    column: str | None = None,
    encoding: str = "utf-8",
    notes: Tell | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """The documents of all sources, in order, read as they are asked for (a line file is never whole in memory).

    ``column`` names the text of JSONL, CSV and TSV files, whose rows are documents whatever ``documents`` says.
    ``encoding``: a codec, or "auto" to take for each file what it reads well as; what was taken is told to ``notes``.
    ``advance`` is told the bytes read from disk. Raises DataError before the first document for what is missing,
    packed, binary, of another encoding in its first 64 KiB, or lacks the column; ConfigError for a wrong option.
    """
    if documents not in UNITS:
        raise ConfigError(f"There is no unit of documents {documents!r}{nearest(documents, UNITS)}")
    if encoding != "auto":
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ConfigError(f"There is no encoding {encoding!r}: try utf-8, latin-1, cp1252 or auto.") from None
    tell = notes or (lambda note: None)
    files = [_File(path, encoding, column) for path in find_files(sources)]
    for file in files:
        file.inspect()
    return _documents(files, documents, tell, advance or (lambda size: None))


def read_lines(path: str | Path, *, encoding: str = "utf-8", notes: Tell | None = None) -> Iterator[str]:
    """The lines of one file without their ends, refused as ``read_documents`` refuses; its format is the caller's."""
    file = _one_file(path, encoding)
    return (line.removesuffix("\n") for line in file.lines(notes or (lambda note: None), lambda size: None))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its (last) line in the file, and its values by column. Those of CSV and TSV are text."""

    line: int
    values: dict[str, Any]


def read_rows(path: str | Path, *, encoding: str = "utf-8", notes: Tell | None = None) -> Iterator[Row]:
    """The rows of one CSV, TSV (with a header, and quotes as CSV has them) or JSONL file.

    Raises DataError for a file of another kind, a column that stands twice in the header, and a row that has not as many
    fields as the header has columns.
    """
    file = _one_file(path, encoding)
    if file.table is None:
        raise DataError(f"{path} is no table that can be told by its name: .csv, .tsv or .jsonl.")
    return file.records(notes or (lambda note: None))


def _one_file(path: str | Path, encoding: str) -> _File:
    if Path(path).expanduser().is_dir():
        raise DataError(f"{path} is a folder: name a file in it.")
    file = _File(find_files(path)[0], encoding, None)
    file.inspect(table=False)
    return file


def _documents(files: list[_File], unit: str, tell: Tell, advance: Callable[[int], None]) -> Iterator[Document]:
    some = False
    for file in files:
        here = False
        for document in file.documents(unit, tell, advance):
            here = some = True
            yield document
        if not here and len(files) > 1:
            tell(f"{file.path}: no text in it, left out")
    if not some:
        names = ", ".join(str(file.path) for file in files[:3]) + (", ..." if len(files) > 3 else "")
        raise DataError(f"There is no text in {names}: empty, or nothing but white space.")


class _File:
    """One file: how it is packed, which table it is, in which encoding, and its documents."""

    def __init__(self, path: Path, encoding: str, column: str | None) -> None:
        self.path, self.asked, self.column = path, encoding, column
        suffixes = [suffix.lower() for suffix in path.suffixes]
        self.packed = _PACKED.get(suffixes[-1]) if suffixes else None
        rest = suffixes[:-1] if self.packed else suffixes
        self.table = _TABLES.get(rest[-1]) if rest else None

    def inspect(self, table: bool = True) -> None:
        """Refuse, from the first bytes, what can't be read; raises DataError."""
        with _readable(self.path), self._open() as (stream, _):
            first = stream.read(_FIRST)
        what = encodings.binary(first)
        if what:
            raise DataError(f"{self.path} isn't text: it is {what}.")
        if self.asked != "auto":
            self._decode(codecs.getincrementaldecoder(encodings.mark(first) or self.asked)(), first, 0)
            self._no_zeros(first, encodings.mark(first) or self.asked, 0)
        if not table:
            return
        if self.table and first.strip():
            next(self._rows(lambda note: None, lambda size: None), None)
        elif self.column and not self.table:
            raise DataError(f"{self.path} is plain text and has no columns: leave --column {self.column} out.")

    def documents(self, unit: str, tell: Tell, advance: Callable[[int], None]) -> Iterator[Document]:
        """The documents of this file."""
        if self.table:
            for number, text in self._rows(tell, advance):
                if text and not text.isspace():
                    yield Document(text, f"{self.path}:{number}")
        elif unit == "file":
            text = "".join(self._blocks(tell, advance))
            if text and not text.isspace():
                yield Document(text, str(self.path))
        else:
            yield from self._parts(unit, tell, advance)

    def _parts(self, unit: str, tell: Tell, advance: Callable[[int], None]) -> Iterator[Document]:
        held: list[str] = []
        first = 1
        for number, line in enumerate(self.lines(tell, advance), start=1):
            if line.isspace():
                if held:
                    yield Document("".join(held).rstrip("\n"), f"{self.path}:{first}")
                held = []
            elif unit == "line":
                yield Document(line.rstrip("\n"), f"{self.path}:{number}")
            else:
                first = first if held else number
                held.append(line)
        if held:
            yield Document("".join(held).rstrip("\n"), f"{self.path}:{first}")

    def records(self, tell: Tell) -> Iterator[Row]:
        """The rows of this table, whole."""
        lines = self.lines(tell, lambda size: None)
        if self.table == "jsonl":
            for number, row in self._json_rows(lines, lambda names: None):
                yield Row(number, row)
            return
        for number, row in self._csv_rows(lines, self._check_header):
            if None in row or None in row.values():
                spare = len(row.pop(None, ()))  # type: ignore[call-overload]
                fields = spare + sum(value is not None for value in row.values())
                raise DataError(
                    f"{self.path}, line {number}: {fields} fields, and the header has {len(row)}: "
                    "a field with a separator or a line end in it needs quotes around it."
                )
            yield Row(number, row)

    def _check_header(self, names: Iterable[str]) -> None:
        names = list(names)
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise DataError(f"{self.path} has two columns {twice!r}: rename one.")

    def _rows(self, tell: Tell, advance: Callable[[int], None]) -> Iterator[tuple[int, str]]:
        """Row number and text of each row of a table."""
        lines = self.lines(tell, advance)
        check = self._check_column
        for number, row in self._json_rows(lines, check) if self.table == "jsonl" else self._csv_rows(lines, check):
            yield number, self._text(row[str(self.column)], number)

    def _text(self, value: object, number: int) -> str:
        if value is not None and not isinstance(value, str):
            raise DataError(f"{self.path}, line {number}: column {self.column!r} isn't text: {value!r:.60}.")
        if value and any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(f"{self.path}, line {number}: half a surrogate pair in column {self.column!r}.")
        return value or ""

    def _csv_rows(self, lines: Iterable[str], check: Check) -> Iterator[tuple[int, dict[str, Any]]]:
        csv.field_size_limit(sys.maxsize)  # the module's limit would refuse a document of 128 KiB
        reader = csv.DictReader(lines, delimiter="\t" if self.table == "tsv" else ",", strict=True)
        try:
            check(reader.fieldnames or [])
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            line = reader.reader.line_num  # that of the DictReader itself is of the last good row
            hint = (
                "; a field with quotes in it is put in quotes, and they are doubled"
                if "expected after" in str(error)
                else ""
            )
            raise DataError(f"{self.path}, line {line}: not valid {self.table}: {error}{hint}.") from None

    def _json_rows(self, lines: Iterable[str], check: Check) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{self.path}, line {number}: not valid JSON: {error}.") from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{self.path}, line {number}: should be an object with columns, is {line.strip()[:40]}."
                )
            check(row)
            yield number, row

    def _check_column(self, names: Iterable[str]) -> None:
        names = list(names)
        if self.column is None:
            raise DataError(f"{self.path} has the columns {', '.join(names)}: say which is the text with --column.")
        if self.column not in names:
            raise DataError(f"{self.path} has no column {self.column!r}{nearest(self.column, names)}")

    def lines(self, tell: Tell, advance: Callable[[int], None]) -> Iterator[str]:
        """Lines with their ``\n``; only ``\n`` ends a line (not the separators that str.splitlines knows)."""
        rest: list[str] = []
        for block in self._blocks(tell, advance):
            *whole, last = block.split("\n")
            for line in whole:
                rest.append(line + "\n")
                yield "".join(rest)
                rest = []
            if last:
                rest.append(last)
        if rest:
            yield "".join(rest)

    def _blocks(self, tell: Tell, advance: Callable[[int], None]) -> Iterator[str]:
        """The file as text, block by block, line ends as ``\n``."""
        with _readable(self.path), self._open() as (stream, disk):
            first = stream.read(_FIRST)
            encoding = self._encoding(first, tell)
            decoder = codecs.getincrementaldecoder(encoding)()
            newlines = io.IncrementalNewlineDecoder(None, translate=True)
            block, done, told = first, 0, 0
            while block:
                self._no_zeros(block, encoding, done)
                yield newlines.decode(self._decode(decoder, block, done))
                done += len(block)
                place = disk.tell()
                advance(place - told)
                told = place
                block = stream.read(_BLOCK)
            tail = self._decode(decoder, b"", done, final=True)
            yield newlines.decode(tail, final=True)

    def _encoding(self, first: bytes, tell: Tell) -> str:
        marked = encodings.mark(first)
        if marked:
            if codecs.lookup(marked).name not in (codecs.lookup("utf-8-sig").name, self.asked):
                tell(f"{self.path}: {marked}, as its byte-order mark says")
            return marked
        if self.asked != "auto":
            return self.asked
        found = self._detected()
        if found is None:
            raise DataError(
                f"{self.path} reads well in no encoding that can be told from its bytes: name it with --encoding."
            )
        if found != "utf-8":
            tell(f"{self.path}: read as {found}")
        return found

    def _detected(self) -> str | None:
        with self._open() as (stream, _):
            return encodings.detect(iter(lambda: stream.read(_BLOCK), b""))

    def _decode(self, decoder: codecs.IncrementalDecoder, block: bytes, done: int, final: bool = False) -> str:
        pending = len(decoder.getstate()[0])
        try:
            return decoder.decode(block, final)
        except UnicodeDecodeError as error:
            found = self._detected()
            known = {"latin-1": " (western letters)", "utf-8": ""}
            hint = (
                f"it reads well as {found}{known.get(found, '')}: pass --encoding {found}"
                if found
                else "it reads well in no other encoding either, so it may not be text; if it is, name its encoding with --encoding"
            )
            raise DataError(
                f"{self.path} isn't valid {self.asked} at byte {done - pending + error.start} "
                f"(0x{error.object[error.start]:02x}); {hint}."
            ) from None

    def _no_zeros(self, block: bytes, encoding: str, done: int) -> None:
        if b"\0" not in block or encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32")):
            return
        hint = " It looks like UTF-16: pass --encoding utf-16-le." if block.count(0) > len(block) // 3 else ""
        raise DataError(f"{self.path} isn't text: it has a NUL byte at byte {done + block.index(0)}.{hint}")

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The unpacked stream, and the file on disk below it, whose place says how much was read."""
        with self.path.open("rb") as disk:
            yield (disk if self.packed is None else self.packed(disk), disk)  # type: ignore[misc,operator]


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what can go wrong with a file on disk into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is packed, and damaged: {error}.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
