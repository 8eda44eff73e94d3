"""Labelled examples from your own tables: CSV, TSV or JSONL whose columns you name.

Columns are read by name and a wrong one is listed with the right ones. A table is refused whole, before work starts,
when a text is empty, or a label is empty or not a number where numbers are asked for; the message counts them and says
where the first one stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.data.examples import ChoiceExample, Label, TaggedExample, TextExample, some, unique_ids
from vocablo.data.readers import Row, Tell, read_rows
from vocablo.data.tags import in_iob2

KINDS = ("class", "number", "labels", "text")
_ABSENT = ("nan", "NaN", "<NA>")  # how programs write that a cell of a table has no value
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are the text, the second text of a pair, the label, and the example's id (else its place from 0)."""

    text: str = "text"
    pair: str | None = None
    label: str | None = "label"
    id: str | None = None


def read_texts(
    path: str | Path,
    columns: Columns = Columns(),
    *,
    kind: str = "class",
    separator: str = "|",
    encoding: str = "utf-8",
    notes: Tell = tell,
) -> list[TextExample]:
    """Texts with a label of a ``kind``: class, number, text, or labels (several, a JSON list or joined by ``separator``).

    Of this last kind an empty list, or cell, is a text that no label applies to; elsewhere it is refused.

    Raises DataError for what the module's description refuses, ConfigError for an unknown kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no kind of label {kind!r}{nearest(kind, KINDS)}")
    table = _Table(path, encoding, notes)
    read = {"class": _class, "number": _number, "text": _text, "labels": lambda value: _labels(value, separator)}[kind]

    def example(row: Row, place: int) -> TextExample:
        return TextExample(
            table.id(row, columns.id, place),
            table.text(row, columns.text),
            None if columns.pair is None else table.text(row, columns.pair),
            None
            if columns.label is None
            else table.value(row, columns.label, read, _WANTED[kind], empty=kind == "labels"),
        )

    return table.all(example)


def read_tagged(
    path: str | Path,
    *,
    words: str = "tokens",
    tags: str | None = "tags",
    encoding: str = "utf-8",
    notes: Tell = tell,
) -> list[TaggedExample]:
    """Sentences of a JSONL file whose columns are lists of words and of tags (texts), of the same length."""
    table = _Table(path, encoding, notes)

    lines: list[int] = []

    def example(row: Row, place: int) -> TaggedExample:
        lines.append(row.line)
        tokens = table.value(row, words, _texts, "a list of words")
        given = None if tags is None else table.value(row, tags, _texts, "a list of tags")
        if given is not None and tokens is not None and len(given) != len(tokens):
            raise DataError(f"{path}, line {row.line}: {len(tokens)} words and {len(given)} tags: each word needs one.")
        return TaggedExample(str(place), tokens, given)

    return in_iob2(table.all(example), lambda sentence, _: f"{path}, line {lines[sentence]}")


def read_choices(
    path: str | Path,
    *,
    text: str,
    choices: Sequence[str],
    label: str | None = "label",
    start: str | None = None,
    encoding: str = "utf-8",
    notes: Tell = tell,
) -> list[ChoiceExample]:
    """Multiple choice: ``choices`` are the columns of the choices (or one column of JSON lists), the label counts from 0."""
    table = _Table(path, encoding, notes)
    if len(choices) < 1:
        raise ConfigError("Name the columns of the choices, as in ending0 ending1 ending2 ending3.")

    def example(row: Row, place: int) -> ChoiceExample:
        if len(choices) == 1:
            options = table.value(row, choices[0], _texts, "a list of choices")
        else:
            options = tuple(table.text(row, name) for name in choices)
        true = None if label is None else table.value(row, label, _whole, "a whole number, from 0")
        if true is not None and not 0 <= true < len(options):
            raise DataError(f"{path}, line {row.line}: the label {true} is none of the {len(options)} choices, from 0.")
        return ChoiceExample(
            str(place), table.text(row, text), "" if start is None else table.text(row, start), options, true
        )

    return table.all(example)


class _Table:
    """A table's rows, their values by column, and what is missing in it, gathered to be told at once."""

    def __init__(self, path: str | Path, encoding: str, notes: Tell) -> None:
        self.path = path
        self.rows: Iterator[Row] = read_rows(path, encoding=encoding, notes=notes)
        self.missing: dict[str, list[int]] = {}
        self.seen = 0

    def all(self, make: Callable[[Row, int], T]) -> list[T]:
        """The examples of all rows; raises DataError for what was missing, for no rows and for ids that stand twice."""
        examples = []
        for row in self.rows:
            examples.append(make(row, self.seen))
            self.seen += 1
        for column, lines in self.missing.items():
            many = f"{len(lines)} rows have" if len(lines) > 1 else "a row has"
            raise DataError(
                f"{self.path}: {many} nothing in column {column!r}, the first on line {lines[0]}: "
                "fill them or leave these rows out."
            )
        some(examples, str(self.path))
        unique_ids((one.id for one in examples), str(self.path))  # type: ignore[attr-defined]
        return examples

    def value(self, row: Row, column: str, read: Callable[[Any], T | None], wanted: str, *, empty: bool = False) -> T:
        """What ``read`` makes of a value; None (not ``wanted``) is an error, and a missing value is noted."""
        if column not in row.values:
            where = f", line {row.line}," if self.seen else ""
            raise DataError(f"{self.path}{where} has no column {column!r}{nearest(column, row.values)}")
        value = row.values[column]
        if _absent(value, read) and not (empty and value in ("", [])):
            self.missing.setdefault(column, []).append(row.line)
            return None  # type: ignore[return-value]
        result = read(value)
        if result is None:
            raise DataError(f"{self.path}, line {row.line}: column {column!r} should be {wanted}, is {value!r:.60}.")
        return result

    def text(self, row: Row, column: str) -> str:
        return self.value(row, column, _text, "text")

    def id(self, row: Row, column: str | None, place: int) -> str:
        return str(place) if column is None else self.value(row, column, _class, "text or a number")


def _absent(value: Any, read: Callable[[Any], Any]) -> bool:
    """Whether there is no value; what a table calls "nan" may be a text."""
    if isinstance(value, str):
        return not value or value.isspace() or (read is not _text and value in _ABSENT)
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == []


_WANTED = {"class": "text or a whole number", "number": "a finite number", "labels": "a list of labels", "text": "text"}


def _text(value: Any) -> str | None:
    whole = isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
    return value if whole else None


def _class(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _labels(value: Any, separator: str) -> Label | None:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(separator)] if value else []
    return _texts(value)


def _texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    parts = tuple(part for part in map(_text, value) if part)
    return parts if len(parts) == len(value) else None
