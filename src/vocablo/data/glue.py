"""GLUE's tasks in the files of its own download (Wang et al. 2019), and in the files that its server takes.

Nothing is quoted in these TSVs: a ``"`` is a character like others. CoLA's training and development files have no header,
MRPC's begin with a byte-order mark, test files lack the label column, and STS-B's original files (``sts-test.tsv``) are
read too. A row with too few or too many fields (QQP's training file has some) is left out, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocablo.base import files
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.data.examples import Label, TextExample, some, unique_ids
from vocablo.data.readers import Tell, read_lines

_NLI = ("entailment", "not_entailment")
_THREE = ("contradiction", "entailment", "neutral")
_TWO = ("0", "1")


@dataclass(frozen=True, slots=True)
class GlueTask:
    """A task: its folder, columns, labels (none: a number), measures (the first is the one that papers give), and files."""

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...] = _TWO
    label: str = "label"
    measures: tuple[str, ...] = ("accuracy",)
    bare: tuple[str, ...] = ()  # the columns of files without a header
    submissions: tuple[str, ...] = ()  # names of the files that the server takes, where not ``name``
    folder: str = ""  # where not ``name``

    @property
    def number(self) -> bool:
        """Whether the answer is a number, in [0, 5], and not a class."""
        return not self.labels


TASKS = {
    "cola": GlueTask("CoLA", ("sentence",), measures=("matthews", "accuracy"), bare=("source", "label", "star", "sentence")),
    "sst2": GlueTask("SST-2", ("sentence",)),
    "mrpc": GlueTask("MRPC", ("#1 String", "#2 String"), label="Quality", measures=("f1", "accuracy")),
    "stsb": GlueTask(
        "STS-B", ("sentence1", "sentence2"), (), "score", ("spearman", "pearson"),
        ("genre", "filename", "year", "old_index", "score", "sentence1", "sentence2"),
    ),
    "qqp": GlueTask("QQP", ("question1", "question2"), label="is_duplicate", measures=("f1", "accuracy")),
    "mnli": GlueTask("MNLI", ("sentence1", "sentence2"), _THREE, "gold_label", submissions=("MNLI-m", "MNLI-mm")),
    "qnli": GlueTask("QNLI", ("question", "sentence"), _NLI),
    "rte": GlueTask("RTE", ("sentence1", "sentence2"), _NLI),
    "wnli": GlueTask("WNLI", ("sentence1", "sentence2")),
    "ax": GlueTask("AX", ("sentence1", "sentence2"), _THREE, measures=("matthews",), folder="diagnostic"),
}  # fmt: skip


def task(name: str) -> GlueTask:
    """A task by its name, in any spelling: ``sst2``, ``SST-2``. Raises ConfigError, naming the nearest one."""
    key = "".join(letter for letter in name.lower() if letter.isalnum())
    key = {"diagnostic": "ax", "mnlim": "mnli", "mnlimm": "mnli", "sst": "sst2", "sts": "stsb"}.get(key, key)
    if key not in TASKS:
        raise ConfigError(f"GLUE has no task {name!r}{nearest(key, TASKS)}")
    return TASKS[key]


def read(which: GlueTask, path: str | Path, *, notes: Tell = tell) -> list[TextExample]:
    """The examples of one file. Their id is the file's ``index``, or the row's place from 0: what the server calls them.

    Raises DataError for a file of another task, a label that the task doesn't have and an index that stands twice.
    """
    lines = read_lines(path, notes=notes)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path} is empty.")
    header = first.split("\t")
    numbered: Iterable[tuple[int, str]] = enumerate(lines, start=2)
    absent = [name for name in which.texts if name not in header]
    loose = False
    if absent and len(header) >= len(which.bare) > 0:
        header, numbered, loose = list(which.bare), [(1, first), *numbered], which.number
    elif absent:
        raise DataError(f"{path} has no column {absent[0]!r}, which {which.name} has{nearest(absent[0], header)}")
    at = {name: header.index(name) for name in (*which.texts, which.label, "index") if name in header}
    examples: list[TextExample] = []
    left_out: list[int] = []
    for number, line in numbered:
        fields = line.split("\t")
        if len(fields) < len(header) or (len(fields) > len(header) and not loose):
            left_out.append(number)
            continue
        examples.append(_example(which, fields, at, len(examples) + len(left_out), f"{path}, line {number}"))
    if left_out:
        notes(
            f"{path}: {len(left_out)} rows without {len(header)} fields are left out, the first is line {left_out[0]}"
        )
    some(examples, str(path))
    unique_ids((example.id for example in examples), str(path))
    return examples


def _example(which: GlueTask, fields: Sequence[str], at: dict[str, int], place: int, where: str) -> TextExample:
    texts = [fields[at[name]] for name in which.texts]
    if empty := next((name for name, text in zip(which.texts, texts, strict=True) if not text.strip()), None):
        raise DataError(f"{where}: nothing in column {empty!r}: fill it, or leave the row out.")
    label = label_of(which, fields[at[which.label]], where) if which.label in at else None
    name = fields[at["index"]] if "index" in at else str(place)
    return TextExample(name, texts[0], texts[1] if len(texts) > 1 else None, label)


def label_of(which: GlueTask, text: str, where: str) -> Label:
    """A label as a file writes it. Raises DataError, at ``where``, for one that the task doesn't have."""
    if which.number:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{where}: {which.name} wants a finite number, not {text!r:.40}.")
        return value
    if text not in which.labels:
        raise DataError(f"{where}: {which.name} has no label {text!r:.40}{nearest(text, which.labels)}")
    return text


def write_submission(
    path: str | Path, which: GlueTask, examples: Sequence[TextExample], predicted: Sequence[Label]
) -> None:
    """The server's format: ``index`` and ``prediction`` (a label's name, or a number), one line an example."""
    if len(examples) != len(predicted):
        raise DataError(f"There are {len(examples):,} examples and {len(predicted):,} predictions: give one for each.")
    rows = []
    for example, value in zip(examples, predicted, strict=True):
        label_of(which, str(value), f"the prediction of {example.id}")
        rows.append(f"{example.id}\t{value:.6f}" if which.number else f"{example.id}\t{value}")
    files.write_text(Path(path), "\n".join(["index\tprediction", *rows]) + "\n")


def read_submission(which: GlueTask, path: str | Path) -> dict[str, Label]:
    """Predictions by index, from such a file."""
    lines = read_lines(path)
    header = (next(lines, None) or "").split("\t")
    if header != ["index", "prediction"]:
        raise DataError(f"{path} isn't a submission to GLUE: its first line should be index<TAB>prediction.")
    found: dict[str, Label] = {}
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        if len(fields) != 2:
            raise DataError(f"{path}, line {number}: two fields with a tab between are wanted, not {len(fields)}.")
        if fields[0] in found:
            raise DataError(f"{path}, line {number}: the index {fields[0]!r} stands twice.")
        found[fields[0]] = label_of(which, fields[1], f"{path}, line {number}")
    return found
