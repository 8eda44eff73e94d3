"""Named entities (and chunks) in CoNLL's columns: precision, recall and F1 of spans, by type and together.

Lenient is conlleval's way, and the one of published figures; strict takes a span for predicted only as IOB2 has it. The
gold tags may be of any scheme. One file may hold both: the last two columns, gold and predicted, as conlleval reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.data import conll
from vocablo.data.examples import TaggedExample
from vocablo.data.tags import convert, of_spans
from vocablo.evaluation.cells import CONLL, Cell, find
from vocablo.evaluation.report import Evaluation
from vocablo.measures import spans

TOGETHER = True  # gold and predicted tags may stand in one file


class Options(Settings):
    """``mode``: lenient or strict; ``column``: the gold tags' place, from 0 or (negative) from the end."""

    mode: Literal["lenient", "strict"] = "lenient"
    column: int = -1


def read_gold(path: Path, options: Options) -> list[TaggedExample]:
    """Sentences with their tags, as written. Raises DataError for tags that aren't of spans."""
    examples = conll.read(path, tag=options.column, as_written=True)
    if not of_spans(example.tags or () for example in examples):
        raise DataError(f"{path} has no tags of spans in column {options.column}: choose another, or evaluate pos.")
    return examples


def read(path: Path, options: Options) -> list[TaggedExample]:
    """The sentences of a file."""
    return read_gold(path, options)


def labelled(gold: Sequence[TaggedExample]) -> bool:
    """Whether the tags are known."""
    return all(example.tags is not None for example in gold)


def cells(data: Path) -> tuple[Cell, ...]:
    """Files named as CoNLL's (esp.train, esp.testa, esp.testb) or by their split (train, valid or dev, test)."""
    return (Cell("NER", ("tag",), find(data, CONLL), "predictions.conll"),)


def asked(gold: Sequence[TaggedExample]) -> Sequence[TaggedExample]:
    """What a model is asked."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[tuple[str, ...]]:
    """The tags of a model's predictions. Raises DataError for a model whose tags aren't of spans; O alone may be of spans."""
    tags = [one.tags for one in predictions]
    if not of_spans(tags) and any(tag != "O" for one in tags for tag in one):
        raise DataError("The model's tags aren't of spans (B-PER, I-PER, O): evaluate pos instead.")
    return tags


def write(path: Path, gold: Sequence[TaggedExample], predictions: Sequence[Sequence[str]], options: Options) -> None:
    """Columns word, true tag, predicted tag."""
    conll.write(path, gold, predictions)


def read_predictions(path: Path, gold: Sequence[TaggedExample], options: Options) -> list[tuple[str, ...]]:
    """The last column of a file with the same words, as it is written."""
    return conll.aligned(conll.read(path, as_written=True), gold, path)


def evaluate(gold: Sequence[TaggedExample], predictions: Sequence[Sequence[str]], options: Options) -> Evaluation:
    """F1, precision and recall of all entities together (micro) and of each type, and the accuracy of tags."""
    true = [example.tags or () for example in gold]
    if options.mode == "strict":
        true = [convert(tags, "IOB2") for tags in true]
    measured = spans.span_f1(true, predictions, options.mode)
    rows = {
        name: ((one.f1, one.precision, one.recall), {"gold": one.gold, "predicted": one.predicted, "right": one.right})
        for name, one in measured.items()
    }
    (scores, facts), accuracy = rows.pop(""), spans.tag_accuracy(true, predictions)
    protocol = {"lenient": "conlleval (lenient)", "strict": "IOB2 (strict)"}[options.mode]
    return Evaluation("ner", f"spans by {protocol}", (*scores, accuracy), facts, rows)
