"""Translation: a sentence in one language, written from the same in another; measured by BLEU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vocablo.measures.bleu import bleu, words
from vocablo.measures.measurement import Measurement
from vocablo.tasks import _text_to_text
from vocablo.tasks._text_to_text import Config, check_out, labels, read, sides, texts, write

__all__ = ["Config", "Task", "check_out", "labels", "read", "sides", "texts", "write"]

ABOUT = "a text: its translation"
HEAD = ""
POOLED = False
PAIRS = True
VERB = "translate"
TEXTS = True
ASK = ('translate "..."', 'translate "..." --beam 5 --n-best 3', "predict FILE --out translations.txt")


class Task(_text_to_text.Task):
    """See ``_text_to_text.Task``."""

    NAME = "translate"

    def measure(self, gold: Sequence[str], given: Sequence[str]) -> Iterable[Measurement]:
        """BLEU of words and punctuation; ``evaluate translation`` has the figures that are published."""
        yield bleu([words(one) for one in gold], [words(one) for one in given])
