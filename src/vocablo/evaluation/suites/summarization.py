"""Summaries against references: ROUGE-1, ROUGE-2 and ROUGE-L, F1 (Lin 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocablo.base.config import Settings
from vocablo.base.files import write_text
from vocablo.data.examples import TextExample
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.report import Evaluation
from vocablo.evaluation.suites import _written
from vocablo.measures.rouge import rouge
from vocablo.tasks._texts import Columns


class Options(Settings):
    """The columns of a table: of the text and of its summary."""

    source: str = "text"
    target: str = "label"


def read_gold(path: Path, options: Options) -> list[TextExample]:
    """References, one a line, or a table, or SOURCE,TARGET."""
    return _written.read_gold(path, _columns(options))


def read(path: Path, options: Options) -> list[TextExample]:
    """Texts and references."""
    return _written.read(path, _columns(options))


def labelled(gold: Sequence[TextExample]) -> bool:
    """Whether the references are known."""
    return all(one.label is not None for one in gold)


def cells(data: Path) -> tuple[Cell, ...]:
    """The files are given: --data SOURCE,TARGET, or a table."""
    return _written.cell("summarization", "summarize")


def asked(gold: Sequence[TextExample]) -> Sequence[TextExample]:
    """What a model is asked."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[str]:
    """The summaries that a model wrote."""
    return [" ".join(one.output.split()) for one in predictions]


def write(path: Path, gold: Sequence[TextExample], predictions: Sequence[str], options: Options) -> None:
    """One summary a line."""
    write_text(path, "".join(one + "\n" for one in predictions))


def read_predictions(path: Path, gold: Sequence[TextExample], options: Options) -> list[str]:
    """One summary a line."""
    return _written.read_predictions(path, gold)


def evaluate(gold: Sequence[TextExample], predictions: Sequence[str], options: Options) -> Evaluation:
    """ROUGE as means over summaries."""
    measured = rouge([str(one.label) for one in gold], predictions)
    words = [sum(len(one.split()) for one in side) for side in ([str(one.label) for one in gold], predictions)]
    facts = {"reference words": words[0], "written words": words[1]}
    return Evaluation("summarization", "ROUGE, F1 of lower-cased words, one reference each", measured, facts)


def _columns(options: Options) -> Columns:
    return Columns(text=options.source, label=options.target)
