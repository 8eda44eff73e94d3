"""Answers in one's own words: a question, and perhaps a text about it, read together; the answer is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vocablo.measures.answers import squad
from vocablo.measures.measurement import Measurement
from vocablo.tasks import _text_to_text
from vocablo.tasks._text_to_text import Config, check_out, labels, read, sides, texts, write

__all__ = ["Config", "Task", "check_out", "labels", "read", "sides", "texts", "write"]

ABOUT = "a question, perhaps with a text: an answer that is written"
HEAD = ""
POOLED = False
PAIRS = True
VERB = "answer_text"
TEXTS = True
ASK = ('predict "..."', "predict FILE --out answers.txt")


class Task(_text_to_text.Task):
    """See ``_text_to_text.Task``."""

    NAME = "answer_text"

    def measure(self, gold: Sequence[str], given: Sequence[str]) -> Iterable[Measurement]:
        """F1 of words decides, and exact match beside it, as SQuAD has them."""
        exact, f1 = squad([[one] for one in gold], given)
        return f1, exact
