"""SWAG (Zellers et al. 2018) and CODAH: the share of questions whose right ending was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.data import swag
from vocablo.data.examples import ChoiceExample
from vocablo.evaluation.cells import Cell, find
from vocablo.evaluation.report import Evaluation
from vocablo.measures import classification


class Options(Settings):
    """There are none."""


def read_gold(path: Path, options: Options) -> list[ChoiceExample]:
    """The examples of a file with labels. Raises DataError for a test file, which has none."""
    examples = read(path, options)
    if not labelled(examples):
        raise DataError(f"{path} has no labels to compare with: give the validation file, val.csv.")
    return examples


def read(path: Path, options: Options) -> list[ChoiceExample]:
    """The examples of a file, with labels or without."""
    return swag.read(path)


def labelled(gold: Sequence[ChoiceExample]) -> bool:
    """Whether all labels are known."""
    return all(example.label is not None for example in gold)


def cells(data: Path) -> tuple[Cell, ...]:
    """SWAG's files (train.csv, val.csv, test.csv), or CODAH's of one fold (train.tsv, dev.tsv, test.tsv)."""
    found = find(data, {"train": ("train.csv",), "dev": ("val.csv",), "test": ("test.csv",)})
    codah = {} if found else find(data, {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)})
    return (Cell("CODAH" if codah else "SWAG", ("choose",), found or codah, "predictions.tsv"),)


def asked(gold: Sequence[ChoiceExample]) -> Sequence[ChoiceExample]:
    """What a model is asked."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[int]:
    """The choices of a model's predictions."""
    return [one.choice for one in predictions]


def write(path: Path, gold: Sequence[ChoiceExample], predictions: Sequence[int], options: Options) -> None:
    """Index and choice."""
    swag.write_predictions(path, gold, predictions)


def read_predictions(path: Path, gold: Sequence[ChoiceExample], options: Options) -> list[int]:
    """A choice for each example, from 0."""
    return swag.read_predictions(path, gold)


def evaluate(gold: Sequence[ChoiceExample], predictions: Sequence[int], options: Options) -> Evaluation:
    """Accuracy."""
    true = [example.label if example.label is not None else -1 for example in gold]
    return Evaluation("swag", "SWAG's format", (classification.accuracy(true, predictions),))
