"""What the suites of written texts share: all but their measures, and groups of examples by length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.base.files import write_text
from vocablo.data.examples import TextExample
from vocablo.data.parallel import two_files
from vocablo.data.readers import read_lines
from vocablo.evaluation.cells import Cell
from vocablo.tasks import _text_to_text
from vocablo.tasks._texts import Columns

BOUNDS = (10, 20, 30)  # words of a reference up to which a group goes


class Options(Settings):
    """The columns of a table: of the source, and of the reference."""

    source: str = "text"
    target: str = "label"

    @property
    def columns(self) -> Columns:
        """The same, as tables are read."""
        return Columns(text=self.source, label=self.target)


def read(path: Path, options: Options) -> list[TextExample]:
    """Sources and references: SOURCE,TARGET, or a table with both."""
    return _text_to_text.read(path, options.columns, _text_to_text.Config())


def read_gold(path: Path, options: Options) -> list[TextExample]:
    """References to compare a file of texts with: one a line, or as ``read``."""
    if two_files(str(path)) is None and path.suffix not in _text_to_text.TABLES:
        return [TextExample(str(number), "", None, line) for number, line in enumerate(read_lines(path))]
    return read(path, options)


def read_predictions(path: Path, gold: Sequence[Any], options: Options) -> list[str]:
    """Texts, one a line. Raises DataError for more or fewer than references."""
    lines = list(read_lines(path))
    if len(lines) != len(gold):
        raise DataError(
            f"{path} has {len(lines):,} lines and there are {len(gold):,} references: give one text for each."
        )
    return lines


def labelled(gold: Sequence[TextExample]) -> bool:
    """Whether the references are known."""
    return all(one.label is not None for one in gold)


def asked(gold: Sequence[TextExample]) -> Sequence[TextExample]:
    """What a model is asked: all of it."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[str]:
    """The texts that a model wrote, each on a line of its own."""
    return [" ".join(one.output.split()) for one in predictions]


def write(path: Path, gold: Sequence[TextExample], predictions: Sequence[str], options: Options) -> None:
    """One text a line."""
    write_text(path, "".join(one + "\n" for one in predictions))


def cell(name: str, task: str) -> tuple[Cell, ...]:
    """One test, whose files are named by the caller: there is no set of files that all publish alike."""
    return (Cell(name, (task,), {}, "predictions.txt"),)


def by_length(gold: Sequence[Any]) -> dict[str, list[bool]]:
    """Which examples have references of so many words; groups that are empty are left out."""
    sizes = [len(str(one.label).split()) for one in gold]
    edges = [0, *BOUNDS, 10**9]
    names = [f"{low + 1} to {high} words" for low, high in zip(edges, BOUNDS, strict=False)] + [
        f"over {BOUNDS[-1]} words"
    ]
    groups = {
        name: [low < size <= high for size in sizes] for name, low, high in zip(names, edges, edges[1:], strict=False)
    }
    return {name: which for name, which in groups.items() if any(which)}
