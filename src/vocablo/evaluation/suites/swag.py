"""SWAG (Zellers et al. 2018) and CODAH: the share of questions whose right ending was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.data import swag
from vocablo.data.examples import ChoiceExample
from vocablo.evaluation.report import Evaluation
from vocablo.measures import classification


class Options(Settings):
    """There are none."""


def read_gold(path: Path, options: Options) -> list[ChoiceExample]:
    """The examples of a file with labels. Raises DataError for a test file, which has none."""
    examples = swag.read(path)
    if any(example.label is None for example in examples):
        raise DataError(f"{path} has no labels to compare with: give the validation file, val.csv.")
    return examples


def read_predictions(path: Path, gold: Sequence[ChoiceExample], options: Options) -> list[int]:
    """A choice for each example, from 0."""
    return swag.read_predictions(path, gold)


def evaluate(gold: Sequence[ChoiceExample], predictions: Sequence[int], options: Options) -> Evaluation:
    """Accuracy."""
    true = [example.label if example.label is not None else -1 for example in gold]
    return Evaluation("swag", "SWAG's format", (classification.accuracy(true, predictions),))
