"""Parts of speech in CoNLL-U or CoNLL's columns: the accuracy of tags, one a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocablo.base.config import Settings
from vocablo.data import conll
from vocablo.data.examples import TaggedExample
from vocablo.evaluation.cells import CONLL, Cell, find
from vocablo.evaluation.report import Evaluation
from vocablo.measures import spans

TOGETHER = True  # gold and predicted tags may stand in one file, but for CoNLL-U


class Options(Settings):
    """``column``: the gold tags' place, or in CoNLL-U upos or xpos."""

    column: int | str = -1


def read_gold(path: Path, options: Options) -> list[TaggedExample]:
    """Sentences with their tags."""
    return conll.read(path, tag=options.column, as_written=True)


def read(path: Path, options: Options) -> list[TaggedExample]:
    """The sentences of a file."""
    return read_gold(path, options)


def labelled(gold: Sequence[TaggedExample]) -> bool:
    """Whether the tags are known."""
    return all(example.tags is not None for example in gold)


def cells(data: Path) -> tuple[Cell, ...]:
    """Files of UD's treebanks (en_ewt-ud-dev.conllu), or named as CoNLL's or by their split."""
    return (Cell("POS", ("tag",), find(data, CONLL), "predictions.conll"),)


def asked(gold: Sequence[TaggedExample]) -> Sequence[TaggedExample]:
    """What a model is asked."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[tuple[str, ...]]:
    """The tags of a model's predictions."""
    return [one.tags for one in predictions]


def write(path: Path, gold: Sequence[TaggedExample], predictions: Sequence[Sequence[str]], options: Options) -> None:
    """Columns word, true tag, predicted tag."""
    conll.write(path, gold, predictions)


def read_predictions(path: Path, gold: Sequence[TaggedExample], options: Options) -> list[tuple[str, ...]]:
    """The same column of a CoNLL-U file with the same words, or the last one of a file of columns."""
    column = options.column if ".conllu" in path.name else -1
    return conll.aligned(conll.read(path, tag=column, as_written=True), gold, path)


def evaluate(gold: Sequence[TaggedExample], predictions: Sequence[Sequence[str]], options: Options) -> Evaluation:
    """The share of words whose tag is right."""
    accuracy = spans.tag_accuracy([example.tags or () for example in gold], predictions)
    return Evaluation("pos", "one tag a word", (accuracy,), {"words": sum(len(one.words) for one in gold)})
