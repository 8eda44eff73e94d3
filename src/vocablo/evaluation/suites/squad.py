"""SQuAD 1.1 and 2.0, and sets in their format: exact match and F1 as the official evaluators compute them.

A file is 2.0 when its questions say whether they are impossible. With probabilities of no answer, a question whose
probability is over the threshold counts as not answered, and the best figures over all thresholds are given as facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.data import squad
from vocablo.data.examples import SpanExample
from vocablo.evaluation.cells import Cell, find
from vocablo.evaluation.report import Evaluation
from vocablo.measures import answers
from vocablo.measures.measurement import Measurement


class Options(Settings):
    """``language``: whose articles and punctuation don't count; ``no_answer``: a file of probabilities; ``threshold``."""

    language: Literal["en", "es"] = "en"
    no_answer: Path | None = None
    threshold: float = 1.0


@dataclass(frozen=True, slots=True)
class Questions:
    """Gold: questions with their true answers, and SQuAD's version."""

    examples: tuple[SpanExample, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions: answers by id ("" for none), and the probability that there is none, by id, where known."""

    text: Mapping[str, str]
    no_answer: Mapping[str, float] | None = None


def read_gold(path: Path, options: Options) -> Questions:
    """The questions of a file in SQuAD's format. Raises DataError for one without answers."""
    gold = read(path, options)
    if not labelled(gold):
        raise DataError(f"{path} has no answers to compare with: give the development file.")
    return gold


def read(path: Path, options: Options) -> Questions:
    """The questions of a file, with answers or without."""
    examples, version = squad.read(path, training=False)
    return Questions(tuple(examples), version)


def labelled(gold: Questions) -> bool:
    """Whether all true answers are known."""
    return all(example.answers is not None for example in gold.examples)


def cells(data: Path) -> tuple[Cell, ...]:
    """The files of SQuAD 1.1 in a folder; for another set in its format, SQuAD 2.0 too, give the file itself."""
    found = find(data, {"train": ("train-v1.1*.json",), "dev": ("dev-v1.1*.json",), "test": ("test-v1.1*.json",)})
    return (Cell("SQuAD", ("span",), found, "predictions.json"),)


def asked(gold: Questions) -> Sequence[SpanExample]:
    """What a model is asked."""
    return gold.examples


def given(predictions: Sequence[Any], options: Options) -> Answers:
    """The answers of a model's predictions; whether there is one was decided by the model's own threshold."""
    return Answers({one.id: one.text for one in predictions})


def write(path: Path, gold: Questions, predictions: Answers, options: Options) -> None:
    """The official format."""
    squad.write_predictions(path, predictions.text)


def read_predictions(path: Path, gold: Questions, options: Options) -> Answers:
    """Answers from a file in the official format."""
    no_answer = None if options.no_answer is None else squad.read_no_answer(options.no_answer)
    return Answers(squad.read_predictions(path), no_answer)


def evaluate(gold: Questions, predictions: Answers, options: Options) -> Evaluation:
    """Exact match and F1, of all and (2.0) of the questions with and without an answer."""
    given = [predictions.text.get(example.id) for example in gold.examples]
    missing, strange = given.count(None), len(predictions.text) - sum(one is not None for one in given)
    if missing == len(given):
        raise DataError("None of the predictions is of a question of the gold file: are they of another one?")
    notes = [f"{missing:,} questions have no prediction, and count as wrong"] if missing else []
    notes += [f"{strange:,} predictions are of questions that the gold file lacks"] if strange else []
    true = [tuple(answer.text for answer in example.answers or ()) for example in gold.examples]
    measure = lambda texts: answers.squad(true, texts, version=gold.version, language=options.language)  # noqa: E731
    facts: dict[str, int | float] = {}
    measured = measure(given)
    if predictions.no_answer is not None:
        sure = _no_answers(gold, predictions.no_answer)
        facts = _best(gold, given, sure, measured)
        measured = measure([one if p <= options.threshold else "" for one, p in zip(given, sure, strict=True)])
    names = {"en": "English", "es": "Spanish"}
    protocol = f"SQuAD {gold.version}, {names[options.language]} articles"
    return Evaluation("squad", protocol, measured, facts, _groups(gold, measured), tuple(notes))


def _groups(
    gold: Questions, measured: tuple[Measurement, ...]
) -> dict[str, tuple[tuple[Measurement, ...], dict[str, int]]]:
    if gold.version == "1.1":
        return {}
    groups = {}
    for name, impossible in (("has answer", False), ("no answer", True)):
        which = [example.impossible is impossible for example in gold.examples]
        parts = [one.part(which) for one in measured]
        groups[name] = (tuple(part for part in parts if part is not None), {"questions": sum(which)})
    return groups


def _no_answers(gold: Questions, given: Mapping[str, float]) -> list[float]:
    if absent := [example.id for example in gold.examples if example.id not in given]:
        raise DataError(f"{len(absent):,} questions have no probability of no answer, the first is {absent[0]!r}.")
    return [given[example.id] for example in gold.examples]


def _best(
    gold: Questions, given: list[str | None], sure: list[float], measured: tuple[Measurement, ...]
) -> dict[str, int | float]:
    facts: dict[str, int | float] = {}
    for measurement in measured:
        best = answers.best_threshold(
            measurement, [not example.impossible for example in gold.examples], [bool(one) for one in given], sure
        )
        facts[f"best {measurement.name}"] = best.value
        facts[f"threshold of the best {measurement.name}"] = best.threshold
    return facts
