"""Ambiguous words in sentences: a table of word, sense and sentence, ours in Spanish (``sets/senses-es.tsv``) or one's own.

Ours has ten words of two senses, with five sentences each, written for it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vocablo.base.errors import DataError
from vocablo.data.readers import read_rows

COLUMNS = ("word", "sense", "sentence")


@dataclass(frozen=True, slots=True)
class Use:
    """A word in a sentence, where it has a sense."""

    word: str
    sense: str
    sentence: str


def read_senses(path: str | Path | None = None) -> dict[str, list[Use]]:
    """The uses of each word. None: our set.

    Raises DataError for a table without the columns word, sense and sentence, a sentence that doesn't have its word exactly
    once, and a word with one sense alone, or a sense with one sentence.
    """
    where = Path(str(resources.files("vocablo.data") / "sets" / "senses-es.tsv")) if path is None else Path(path)
    found: dict[str, list[Use]] = defaultdict(list)
    for row in read_rows(where):
        missing = [name for name in COLUMNS if not str(row.values.get(name) or "").strip()]
        if missing:
            raise DataError(
                f"{where}, line {row.line}: there is no {missing[0]}; the columns are {', '.join(COLUMNS)}."
            )
        use = Use(*(str(row.values[name]).strip() for name in COLUMNS))
        times = len(re.findall(rf"(?<!\w){re.escape(use.word)}(?!\w)", use.sentence, re.IGNORECASE))
        if times != 1:
            raise DataError(f"{where}, line {row.line}: {use.word!r} stands {times} times in its sentence, not once.")
        found[use.word].append(use)
    for word, uses in found.items():
        _check(word, uses, where)
    if not found:
        raise DataError(f"{where} has no words.")
    return dict(found)


def _check(word: str, uses: Sequence[Use], where: Path) -> None:
    counts = Counter(use.sense for use in uses)
    if len(counts) < 2:
        raise DataError(f"{where}: {word!r} has one sense, and two are told apart.")
    if lonely := [sense for sense, count in counts.items() if count < 2]:
        raise DataError(f"{where}: {word!r} has one sentence alone for the sense {lonely[0]!r}; give two or more.")
