"""Summaries against references: ROUGE-1, ROUGE-2 and ROUGE-L, F1 (Lin 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vocablo.data.examples import TextExample
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.report import Evaluation
from vocablo.evaluation.suites import _written
from vocablo.measures.rouge import rouge

Options = _written.Options
read, read_gold, read_predictions = _written.read, _written.read_gold, _written.read_predictions
labelled, asked, given, write = _written.labelled, _written.asked, _written.given, _written.write


def cells(data: Path) -> tuple[Cell, ...]:
    """The files are given: --data SOURCE,TARGET, or a table."""
    return _written.cell("summarization", "summarize")


def evaluate(gold: Sequence[TextExample], predictions: Sequence[str], options: _written.Options) -> Evaluation:
    """ROUGE as means over summaries."""
    measured = rouge([str(one.label) for one in gold], predictions)
    words = [sum(len(one.split()) for one in side) for side in ([str(one.label) for one in gold], predictions)]
    facts = {"reference words": words[0], "written words": words[1]}
    return Evaluation("summarization", "ROUGE, F1 of lower-cased words, one reference each", measured, facts)
