"""Pairs of texts in two files, line by line, as parallel corpora come: line n of one says what line n of the other says."""

from __future__ import annotations

from pathlib import Path

from vocablo.base.errors import DataError
from vocablo.base.progress import tell
from vocablo.data.examples import TextExample, some
from vocablo.data.readers import Tell, read_lines


def two_files(name: str) -> tuple[str, str] | None:
    """The two files of ``SOURCE,TARGET``; None for the name of one file.

    Raises DataError for more than two.
    """
    if "," not in name or Path(name).exists():
        return None
    parts = [part.strip() for part in name.split(",")]
    if len(parts) != 2 or not all(parts):
        raise DataError(f"Parallel files are given as SOURCE,TARGET, two names with a comma between; got {name!r}.")
    return parts[0], parts[1]


def read_parallel(
    source: str | Path,
    target: str | Path | None,
    *,
    encoding: str = "utf-8",
    skip_empty: bool = False,
    notes: Tell = tell,
) -> list[TextExample]:
    """The lines of two files as pairs: ``text`` and ``label``; ``target`` None: only sources are known.

    Raises DataError when the files have different numbers of lines, naming both, and for empty lines, unless ``skip_empty``
    leaves their pairs out, which is told.
    """
    left = list(read_lines(source, encoding=encoding, notes=notes))
    right = None if target is None else list(read_lines(target, encoding=encoding, notes=notes))
    if right is not None and len(left) != len(right):
        raise DataError(
            f"{source} has {len(left):,} lines and {target} has {len(right):,}: line n of one must say what line n of the "
            "other says."
        )
    empty = {
        str(name): [number for number, line in enumerate(lines or (), 1) if not line.strip()]
        for name, lines in ((source, left), (target, right))
    }
    gone = {number for numbers in empty.values() for number in numbers}
    if gone and not skip_empty:
        told = " and ".join(f"{name} on line {_some(numbers)}" for name, numbers in empty.items() if numbers)
        raise DataError(f"Empty lines: {told}. Fill them, or leave such pairs out with task.skip_empty=true.")
    if gone:
        notes(f"{len(gone):,} of {len(left):,} pairs have an empty side and are left out")
    examples = [
        TextExample(str(number - 1), line, None, None if right is None else right[number - 1])
        for number, line in enumerate(left, 1)
        if number not in gone
    ]
    some(examples, str(source))
    return examples


def _some(numbers: list[int], most: int = 5) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")
