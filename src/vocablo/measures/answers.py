"""Exact match and F1 of answers to questions about a text, as SQuAD's two official evaluators define them.

normalize     lower case, no punctuation, no articles, single spaces
exact match   the normalized answer is one of the true ones
F1            of the bag of words that the answer shares with a true one, the best over the true ones

version 1.1 (Rajpurkar et al. 2016)   an answer that is empty once normalized shares no words: F1 = 0
version 2.0 (Rajpurkar et al. 2018)   a question without an answer has the one true answer ""; F1 with an empty side is
                                      exact match
In Spanish the articles and the punctuation are those of MLQA's evaluator (Lewis et al. 2020). A question without a
prediction counts as wrong; the official 2.0 evaluator fails there.
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from vocablo.base.errors import ConfigError, nearest
from vocablo.measures.measurement import Measurement, check_pairs, mean

ARTICLES = {
    "en": ("a", "an", "the"),
    "es": ("un", "una", "unos", "unas", "el", "la", "los", "las"),
}
VERSIONS = ("1.1", "2.0")


def normalize(text: str, language: str = "en") -> str:
    """``"¿El Niño?"`` -> ``"niño"`` in Spanish. Raises ConfigError for a language without a list of articles."""
    articles, punctuation = _rules(language)
    return " ".join(articles.sub(" ", text.lower().translate(punctuation)).split())


@cache
def _rules(language: str) -> tuple[re.Pattern[str], dict[int, None]]:
    if language not in ARTICLES:
        raise ConfigError(f"There are no rules for answers in {language!r}{nearest(language, ARTICLES)}")
    marks = set(map(ord, string.punctuation))
    if language != "en":  # SQuAD's evaluator leaves marks outside of ASCII, such as ¿ and «, in place
        marks |= {code for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("P")}
    return re.compile(rf"\b({'|'.join(ARTICLES[language])})\b"), dict.fromkeys(marks)


def squad(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[str | None],
    *,
    version: str = "1.1",
    language: str = "en",
) -> tuple[Measurement, Measurement]:
    """Exact match and F1. ``gold`` has the true answers of each question (none: it has no answer); None isn't answered."""
    if version not in VERSIONS:
        raise ConfigError(f"There is no SQuAD {version!r}{nearest(version, VERSIONS)}")
    check_pairs(gold, predicted, "questions")
    rows = np.array([_judge(true, given, version, language) for true, given in zip(gold, predicted, strict=True)])
    return (
        Measurement("exact match", rows[:, :1], mean, unit="questions", right=True),
        Measurement("f1", rows[:, 1:], mean, unit="questions"),
    )


def _judge(gold: Sequence[str], predicted: str | None, version: str, language: str) -> tuple[float, float]:
    if predicted is None:
        return 0.0, 0.0
    true = [normalize(answer, language) for answer in gold]
    if version == "2.0":
        true = [answer for answer in true if answer] or [""]
    given = normalize(predicted, language)
    return float(given in true), max((_shared(answer, given, version) for answer in true), default=0.0)


def _shared(true: str, given: str, version: str) -> float:
    one, other = true.split(), given.split()
    if version == "2.0" and not (one and other):
        return float(one == other)
    both = sum((Counter(one) & Counter(other)).values())
    return 2 * both / (len(one) + len(other)) if both else 0.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """The best share that some threshold on the probability of no answer gives, and the lowest such threshold."""

    value: float
    threshold: float


def best_threshold(
    measurement: Measurement, answerable: Sequence[bool], answered: Sequence[bool], no_answer: Sequence[float]
) -> Threshold:
    """SQuAD 2.0's "best exact" and "best F1": a question is answered when its ``no_answer`` is at most the threshold.

    ``answerable``: the question has an answer; ``answered``: the prediction isn't empty. As in the official evaluator,
    questions of equal probability are admitted one by one, so with ties the value is a bound and not always reached.
    """
    check_pairs(answerable, no_answer, "questions")
    gains = np.where(
        np.asarray(answerable, dtype=bool), measurement.rows[:, 0], -np.asarray(answered, dtype=np.float64)
    )
    order = np.argsort(np.asarray(no_answer, dtype=np.float64), kind="stable")
    totals = np.concatenate([[0.0], np.cumsum(gains[order])]) + (~np.asarray(answerable, dtype=bool)).sum()
    best = int(np.argmax(totals))
    return Threshold(float(totals[best] / len(order)), float(no_answer[order[best - 1]]) if best else 0.0)
