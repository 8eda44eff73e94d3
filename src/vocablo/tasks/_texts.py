"""What the tasks on texts and pairs of texts share: reading tables and GLUE's files, and encoding."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vocablo.base import files
from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.data import glue, tables
from vocablo.data.examples import TextExample
from vocablo.data.readers import Tell
from vocablo.tasks._reading import Reader, count_cut
from vocablo.tasks._rows import Encoded


class Columns(Settings):
    """Where a file has what a task needs; each task asks for those that it knows.

    ``format``: table (CSV, TSV or JSONL with a header), glue:NAME for the files of GLUE, or what the task itself names.
    """

    format: str | None = None
    text: str = "text"
    pair: str | None = None
    label: str = "label"
    id: str | None = None
    choices: tuple[str, ...] = ()
    start: str | None = None
    words: str = "tokens"
    tags: str = "tags"
    separator: str = "|"
    encoding: str = "utf-8"


def read_texts(
    path: str | Path, columns: Columns, kind: str, *, labelled: bool = True, notes: Tell = tell
) -> list[TextExample]:
    """Texts with labels of a ``kind`` (class, number, labels) from a table or one of GLUE's files."""
    form = columns.format or "table"
    if (which := glue_task(columns)) is not None:
        if which.number != (kind == "number") or kind == "labels":
            raise ConfigError(
                f"{which.name} is a task of {'numbers: regress' if which.number else 'classes: classify'}."
            )
        return glue.read(which, path, notes=notes)
    if form != "table":
        raise ConfigError(f"There is no format {form!r} here{nearest(form, ('table', 'glue:NAME'))}")
    named = tables.Columns(columns.text, columns.pair, columns.label if labelled else None, columns.id)
    return tables.read_texts(
        path, named, kind=kind, separator=columns.separator, encoding=columns.encoding, notes=notes
    )


def glue_task(columns: Columns) -> glue.GlueTask | None:
    """GLUE's task that the format names, if it names one."""
    form = columns.format or ""
    return glue.task(form.removeprefix("glue:")) if form.startswith("glue:") else None


def check_out(path: str | Path, columns: Columns) -> None:
    """Raise ConfigError, before work starts, for a file of predictions whose format isn't known."""
    kinds = (".tsv",) if glue_task(columns) else (".jsonl", ".csv", ".tsv")
    if Path(path).suffix not in kinds:
        raise ConfigError(f"Predictions go into {' or '.join(kinds)} files, not into {path}.")


def write_table(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys into .jsonl, .csv or .tsv; whole or not at all."""
    if Path(path).suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        made = io.StringIO()
        table = csv.DictWriter(
            made, list(rows[0]), delimiter="\t" if Path(path).suffix == ".tsv" else ",", lineterminator="\n"
        )
        table.writeheader()
        table.writerows(rows)
        text = made.getvalue()
    files.write_text(Path(path), text)


def texts(examples: Iterable[TextExample]) -> Iterator[str]:
    """All texts of examples."""
    for example in examples:
        yield example.text
        if example.pair is not None:
            yield example.pair


def encode(reader: Reader, examples: Sequence[TextExample], where: str, values: Any = None) -> Encoded:
    """The examples as the reader frames them, with ``values`` of what is to be told; what was cut is told."""
    pairs = sum(example.pair is not None for example in examples)
    if 0 < pairs < len(examples):
        raise DataError(f"{where} has pairs of texts and single ones: give one kind.")
    reader.check(pair=pairs > 0)
    names = [f"{where}: example {example.id}" for example in examples]
    texts = [example.text for example in examples]
    if pairs:
        first = reader.tokenizer.encode_batch(texts)
        second = reader.tokenizer.encode_batch([example.pair or "" for example in examples])
        made = [reader.pair(*both) for both in zip(first, second, names, strict=True)]
        framed, sizes, cut = [one for one, _ in made], [1] * len(made), [was for _, was in made]
    else:
        framed, sizes, cut = reader.texts(texts, names)
    if note := count_cut(cut, where):
        tell(note)
    return Encoded.of(framed, cut=cut, sizes=sizes, values=values)
