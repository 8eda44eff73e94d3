"""Published sets of word similarity and analogy, as their authors wrote them.

similarity    word, word, score, ... in columns (tabs, commas or spaces), with or without a line of titles, which may
              name the score (SimLex999, Human (mean), Average Score); else it is the third column
analogy       ": section", then "Athens Greece Baghdad Iraq" a line (Mikolov et al. 2013)
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vocablo.base.errors import DataError

ENDINGS = (".txt", ".tab", ".tsv", ".csv")
TITLES = ("simlex999", "human (mean)", "average score")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of words with people's scores."""

    name: str
    pairs: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """Analogies a : b = c : d, by section."""

    name: str
    sections: dict[str, tuple[tuple[str, str, str, str], ...]]


def read_sets(data: str | Path) -> tuple[list[Pairs | Questions], list[str]]:
    """The sets of a folder (or one file), by name, and the names of files that are none.

    Raises DataError for a path that isn't there or holds no set.
    """
    path = Path(data)
    if not path.exists():
        raise DataError(f"There is no file or folder {path}: give the sets' folder with --data.")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in ENDINGS)
    sets: list[Pairs | Questions] = []
    others = []
    for file in files:
        name = file.name if path.is_file() else str(file.relative_to(path))
        found = read_set(file, name)
        if found is None:
            others.append(name)
        else:
            sets.append(found)
    if not sets:
        raise DataError(f"{path} has no set of word pairs with scores, or of analogies.")
    return sets, others


def read_set(path: Path, name: str) -> Pairs | Questions | None:
    """A file's set, or None for another file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return None
    if lines[0].startswith(":"):
        return _questions(lines, name)
    rows = _rows(lines, path.suffix)
    titles = [cell.strip().casefold() for cell in rows[0]]
    column = next((titles.index(title) for title in TITLES if title in titles), None)
    if column is not None or (len(rows) > 1 and _score(rows[0], 2) is None):
        rows = rows[1:]
    scores = [_score(row, 2 if column is None else column) for row in rows]
    if len(rows) < 2 or any(score is None for score in scores):
        return None
    pairs = [
        (row[0].strip(), row[1].strip(), score) for row, score in zip(rows, scores, strict=True) if score is not None
    ]
    return Pairs(name, tuple(pairs))


def _rows(lines: list[str], suffix: str) -> list[list[str]]:
    if suffix == ".csv" or ("\t" not in lines[0] and lines[0].count(",") > 1):
        return list(csv.reader(lines))
    return [line.split("\t") if "\t" in line else line.split() for line in lines]


def _score(row: Sequence[str], column: int) -> float | None:
    try:
        return float(row[column])
    except (IndexError, ValueError):
        return None


def _questions(lines: list[str], name: str) -> Questions | None:
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    here: list[tuple[str, str, str, str]] = []
    for line in lines:
        if line.startswith(":"):
            here = sections.setdefault(line[1:].strip(), [])
            continue
        words = line.split()
        if len(words) != 4:
            return None
        here.append((words[0], words[1], words[2], words[3]))
    return Questions(name, {section: tuple(rows) for section, rows in sections.items()})
