"""GLUE (Wang et al. 2019): each task by its own measures, against the labels of its development set.

CoLA is measured by Matthews' correlation, MRPC and QQP by F1 of paraphrases and accuracy, STS-B by Spearman's and Pearson's
correlations, the others by accuracy; the diagnostic set (AX) by Matthews' correlation of three classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.data import glue
from vocablo.data.examples import Label, TextExample
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.report import Evaluation
from vocablo.measures import classification, correlation
from vocablo.measures.measurement import Measurement


class Options(Settings):
    """``task``: which of GLUE's."""

    task: str = ""


def read_gold(path: Path, options: Options) -> list[TextExample]:
    """The examples of a file with labels. Raises DataError for a test file, which has none."""
    examples = read(path, options)
    if not labelled(examples):
        raise DataError(f"{path} has no labels to compare with: give the development file, dev.tsv.")
    return examples


def read(path: Path, options: Options) -> list[TextExample]:
    """The examples of a file, with labels or without."""
    return glue.read(_task(options), path)


def labelled(gold: Sequence[TextExample]) -> bool:
    """Whether all labels are known."""
    return all(example.label is not None for example in gold)


def cells(data: Path) -> tuple[Cell, ...]:
    """The tasks in a folder as GLUE's own download has it, or (with ``--task``) the file of one."""
    return tuple(_cell(data, key, *part) for key in glue.TASKS for part in _PARTS.get(key, (("", "", ""),)))


def asked(gold: Sequence[TextExample]) -> Sequence[TextExample]:
    """What a model is asked."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[Label]:
    """The labels, or numbers, of a model's predictions. Raises DataError for labels that the task doesn't have."""
    task = _task(options)
    if task.number:
        return [float(one.value) for one in predictions]
    return [glue.label_of(task, str(one.label), "the model's labels") for one in predictions]


def write(path: Path, gold: Sequence[TextExample], predictions: Sequence[Label], options: Options) -> None:
    """The server's format."""
    glue.write_submission(path, _task(options), gold, predictions)


def read_predictions(path: Path, gold: Sequence[TextExample], options: Options) -> list[Label]:
    """A label for each example, from a file in the server's format."""
    found = glue.read_submission(_task(options), path)
    if absent := [example.id for example in gold if example.id not in found]:
        raise DataError(f"{path} lacks {len(absent):,} of the {len(gold):,} examples, the first is {absent[0]}.")
    if len(found) > len(gold):
        raise DataError(f"{path} has {len(found):,} predictions, and there are {len(gold):,} examples: another split?")
    return [found[example.id] for example in gold]


def evaluate(gold: Sequence[TextExample], predictions: Sequence[Label], options: Options) -> Evaluation:
    """The task's measures of a label for each example."""
    task = _task(options)
    true = [example.label for example in gold]
    return Evaluation(
        "glue", f"GLUE {task.name}", tuple(_MEASURES[name](task, true, predictions) for name in task.measures)
    )


def _cell(data: Path, key: str, part: str, dev: str, test: str) -> Cell:
    task = glue.TASKS[key]
    name = f"{task.name}{part}"
    folder = data / (task.folder or task.name)
    names = {"train": "train.tsv", "dev": dev or "dev.tsv", "test": test or "test.tsv"}
    files = {split: folder / file for split, file in names.items() if (folder / file).is_file()}
    return Cell(
        name, ("regress" if task.number else "classify",), files, f"{name}.tsv", "mnli" if key == "ax" else key,
        {"task": key}, {"format": f"glue:{key}"},
    )  # fmt: skip


# Tasks with files of their own: what is added to the name, the development file and the test file.
_PARTS = {
    "mnli": (("-m", "dev_matched.tsv", "test_matched.tsv"), ("-mm", "dev_mismatched.tsv", "test_mismatched.tsv")),
    "ax": (("", "diagnostic.tsv", "diagnostic.tsv"),),
}


def _task(options: Options) -> glue.GlueTask:
    if not options.task:
        raise ConfigError(f"Which task of GLUE? One of {', '.join(glue.TASKS)}.")
    return glue.task(options.task)


_MEASURES: dict[str, Callable[..., Measurement]] = {
    "accuracy": lambda task, gold, predicted: classification.accuracy(gold, predicted),
    "f1": lambda task, gold, predicted: classification.f1(gold, predicted, positive="1", labels=task.labels),
    "matthews": lambda task, gold, predicted: classification.matthews(gold, predicted, labels=task.labels),
    "pearson": lambda task, gold, predicted: correlation.pearson(gold, predicted),
    "spearman": lambda task, gold, predicted: correlation.spearman(gold, predicted),
}
