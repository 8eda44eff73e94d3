"""SWAG's CSV (Zellers et al. 2018), CODAH's TSV (Chen et al. 2019), and predictions of either.

SWAG: a header with ``sent1``, ``sent2`` (the words that every ending goes on from), ``ending0`` and so on, and ``label``,
which test files lack. CODAH: no header and no quoting; category, prompt, four answers, the right one from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vocablo.base import files
from vocablo.base.errors import DataError
from vocablo.base.progress import tell
from vocablo.data.examples import ChoiceExample, some
from vocablo.data.readers import Tell, read_lines, read_rows

_CODAH = 7  # fields


def read(path: str | Path, *, notes: Tell = tell) -> list[ChoiceExample]:
    """The examples of a file of either kind: SWAG's is told by its header. Ids are places, from 0."""
    first = next(read_lines(path), "")
    codah = len(first.split("\t")) == _CODAH and "sent1" not in first.split("\t")
    examples = list(_codah(path, notes) if codah else _swag(path, notes))
    some(examples, str(path))
    return examples


def _swag(path: str | Path, notes: Tell) -> Iterator[ChoiceExample]:
    for place, row in enumerate(read_rows(path, notes=notes)):
        values = row.values
        endings = [name for name in (f"ending{i}" for i in range(len(values))) if name in values]
        missing = [name for name in ("sent1", "sent2", "ending0", "ending1") if name not in values]
        if missing:
            raise DataError(
                f"{path} isn't in SWAG's format: it has no column {missing[0]!r}, but {', '.join(map(repr, values))}. "
                "(Of SWAG's two kinds of file this reads train.csv, not train_full.csv.)"
            )
        where = f"{path}, line {row.line}"
        texts = [str(values[name] or "") for name in ("sent1", *endings)]
        if not all(text.strip() for text in texts):
            raise DataError(f"{where}: sent1 and the endings can't be empty.")
        label = _place(str(values["label"]), len(endings), where) if "label" in values else None
        yield ChoiceExample(str(place), texts[0], str(values["sent2"] or ""), tuple(texts[1:]), label)


def _codah(path: str | Path, notes: Tell) -> Iterator[ChoiceExample]:
    for place, line in enumerate(read_lines(path, notes=notes)):
        where = f"{path}, line {place + 1}"
        fields = line.split("\t")
        if len(fields) != _CODAH:
            raise DataError(f"{where}: CODAH has {_CODAH} fields with tabs between, this line has {len(fields)}.")
        _, prompt, *choices, label = fields
        if not all(text.strip() for text in (prompt, *choices)):
            raise DataError(f"{where}: the prompt and the answers can't be empty.")
        yield ChoiceExample(str(place), prompt, "", tuple(choices), _place(label, len(choices), where))


def _place(text: str, choices: int, where: str) -> int:
    if not text.strip().isdecimal() or int(text) >= choices:
        raise DataError(f"{where}: the label {text!r:.40} is none of 0 to {choices - 1}.")
    return int(text)


def write_predictions(path: str | Path, examples: Sequence[ChoiceExample], predicted: Sequence[int]) -> None:
    """``index`` and ``prediction`` (the choice's place from 0), one line an example, as GLUE's submissions are."""
    if len(examples) != len(predicted):
        raise DataError(f"There are {len(examples):,} examples and {len(predicted):,} predictions: give one for each.")
    rows = [f"{example.id}\t{int(choice)}" for example, choice in zip(examples, predicted, strict=True)]
    files.write_text(Path(path), "\n".join(["index\tprediction", *rows]) + "\n")


def read_predictions(path: str | Path, examples: Sequence[ChoiceExample]) -> list[int]:
    """A choice for each example, from such a file or from one of bare labels, a line each."""
    lines = [line for line in read_lines(path) if line.strip()]
    if lines and lines[0].split("\t") == ["index", "prediction"]:
        rows = [line.split("\t") for line in lines[1:]]
        if wrong := [number for number, row in enumerate(rows, start=2) if len(row) != 2]:
            raise DataError(f"{path}, line {wrong[0]}: two fields with a tab between are wanted.")
        found = {row[0]: row[1] for row in rows}
        if len(found) < len(rows):
            raise DataError(f"{path} has an index twice.")
        if absent := [example.id for example in examples if example.id not in found]:
            raise DataError(f"{path} lacks {len(absent):,} of {len(examples):,} examples, the first is {absent[0]}.")
        _as_many(path, len(found), len(examples))
        given = [found[example.id] for example in examples]
    else:
        _as_many(path, len(lines), len(examples))
        given = lines
    return [
        _place(value, len(example.choices), f"{path}, example {example.id}")
        for value, example in zip(given, examples, strict=True)
    ]


def _as_many(path: str | Path, given: int, examples: int) -> None:
    if given != examples:
        raise DataError(f"{path} has {given:,} predictions and there are {examples:,} examples.")
