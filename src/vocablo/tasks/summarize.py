"""Summaries: a short text written from a long one; measured by ROUGE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vocablo.measures.measurement import Measurement
from vocablo.measures.rouge import rouge
from vocablo.tasks import _text_to_text
from vocablo.tasks._text_to_text import Config, check_out, labels, read, sides, texts, write

__all__ = ["Config", "Task", "check_out", "labels", "read", "sides", "texts", "write"]

ABOUT = "a text: its summary"
HEAD = ""
POOLED = False
PAIRS = True
VERB = "summarize"
TEXTS = True
ASK = ('summarize "..."', "predict FILE --out summaries.txt")


class Task(_text_to_text.Task):
    """See ``_text_to_text.Task``."""

    NAME = "summarize"

    def measure(self, gold: Sequence[str], given: Sequence[str]) -> Iterable[Measurement]:
        """ROUGE-L decides; -1 and -2 beside it."""
        one, two, longest = rouge(gold, given)
        return longest, one, two
