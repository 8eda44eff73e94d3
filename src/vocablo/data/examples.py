"""Labelled examples, one record for each kind of task. Readers make them, tasks learn from them, writers answer them.

``id`` is what the file calls an example, or its place from 0; a file that names the same id twice is refused. A label
that is None isn't known: test sets have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vocablo.base.errors import DataError

Label = str | float | tuple[str, ...]  # a class, a number (regression), or several labels


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, or a pair of texts, with a class, a number or a set of labels."""

    id: str
    text: str
    pair: str | None = None
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class TaggedExample:
    """A sentence of words with a tag each. ``document`` counts the documents of the file; tags of spans are IOB2."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    document: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A stretch of a context: its text, and its first character's place in the context (None: not told)."""

    text: str
    start: int | None


@dataclass(frozen=True, slots=True)
class SpanExample:
    """A question about a context. ``answers`` are the true ones, none where ``impossible``; None where they aren't known."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    impossible: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceExample:
    """A text and the ways it may go on. ``start`` are the words that every choice goes on from ("" where there are none)."""

    id: str
    text: str
    start: str
    choices: tuple[str, ...]
    label: int | None = None


def unique_ids(ids: Iterable[str], where: str) -> None:
    """Raise DataError, naming the first one, when an id stands twice."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise DataError(f"{where} has the id {one!r} twice: ids tell examples apart, so rename or remove one.")
        seen.add(one)


def some(examples: Sequence[object], where: str) -> None:
    """Raise DataError when there are no examples."""
    if not examples:
        raise DataError(f"{where} has no examples: it is empty, or nothing but a header.")
