"""How well vectors of words agree with people: similarity by Spearman's rho, and analogies by the share that is right.

A pair or question with a word that has no vector is left out, and how many are left is stated; so figures of models with
different vocabularies are not of the same examples. A word is looked up as written, then in lower case, and one of several
words with "_" between them. An analogy a : b = c : d is right if d is the word nearest to b - a + c among all words but a, b and c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import Progress
from vocablo.data.word_sets import Pairs, Questions, read_sets
from vocablo.inference.words import WordModel
from vocablo.measures import correlation
from vocablo.measures.intervals import wilson_interval
from vocablo.measures.measurement import Score

FEWEST = 10  # known pairs or questions below which a set says nothing
BLOCK = 256
Question = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class SetScore:
    """A set's score; ``count`` of its ``total`` pairs or questions have vectors for all of their words."""

    name: str
    score: Score
    total: int

    @property
    def coverage(self) -> float:
        """The share that could be asked."""
        return self.score.count / self.total


@dataclass(frozen=True, slots=True)
class WordSimReport:
    """What was measured; ``unknown`` are the sets of which too few words are known, ``others`` files that are no sets."""

    similarity: tuple[SetScore, ...]
    analogies: tuple[SetScore, ...]
    words: int
    unknown: tuple[str, ...]
    others: tuple[str, ...]


def evaluate(
    asked: object, data: str | Path, *, only: str | None = None, seed: int = 0, quiet: bool = True
) -> WordSimReport:
    """Measure word vectors on the sets of a folder, or of one file; ``only`` those with this in their names.

    Of a file of analogies there is a score for each section too, if it is the only one.
    Raises ConfigError for another kind of model, DataError when there is nothing to measure.
    """
    if not isinstance(asked, WordModel):
        raise ConfigError("wordsim is asked of vectors of words: a folder of word-vectors, or a file of vectors.")
    sets, others = read_sets(data)
    chosen = [one for one in sets if only is None or only.casefold() in one.name.casefold()]
    if not chosen:
        raise DataError(f"No set has {only!r} in its name; there are {', '.join(one.name for one in sets)}.")
    similar: list[SetScore] = []
    analogies: list[SetScore] = []
    unknown = []
    with Progress("measuring", len(chosen), "sets", quiet=quiet) as progress:
        for one in chosen:
            if isinstance(one, Pairs):
                found = [score] if (score := _similarity(asked, one, seed)) else []
                similar += found
            else:
                found = _analogies(asked, one, sections=len(chosen) == 1)
                analogies += found
            unknown += [] if found else [one.name]
            progress.advance(1, one.name)
    if not similar and not analogies:
        raise DataError(
            f"Of no set in {data} are {FEWEST} pairs or questions known: are these vectors of that language?"
        )
    return WordSimReport(tuple(similar), tuple(analogies), asked.count, tuple(unknown), tuple(others))


def _row(asked: WordModel, word: str) -> int | None:
    for spelled in (word, word.lower(), word.replace(" ", "_"), word.replace(" ", "_").lower()):
        if (row := asked.id(spelled)) is not None:
            return row
    return None


def _similarity(asked: WordModel, one: Pairs, seed: int) -> SetScore | None:
    rows = [(_row(asked, first), _row(asked, second), score) for first, second, score in one.pairs]
    known = [(a, b, score) for a, b, score in rows if a is not None and b is not None]
    if len(known) < FEWEST:
        return None
    cosines = [float(asked.unit[a] @ asked.unit[b]) for a, b, _ in known]
    found = correlation.spearman([score for _, _, score in known], cosines).score(seed=seed)
    return SetScore(one.name, Score("spearman", found.value, len(known), "pairs", found.interval), len(rows))


def _analogies(asked: WordModel, one: Questions, *, sections: bool) -> list[SetScore]:
    parts = {section: _right(asked, questions) for section, questions in one.sections.items()}
    named = {f"{one.name}, {section}": (right, one.sections[section]) for section, right in parts.items()}
    every = [question for questions in one.sections.values() for question in questions]
    listed = {one.name: (np.concatenate([*parts.values(), np.zeros(0)]), every)} | (named if sections else {})
    scores = []
    for name, (right, questions) in listed.items():
        if len(right) >= FEWEST:
            interval = wilson_interval(int(right.sum()), len(right))
            scores.append(
                SetScore(
                    name, Score("accuracy", float(right.mean()), len(right), "questions", interval), len(questions)
                )
            )
    return scores


def _right(asked: WordModel, questions: Sequence[Question]) -> np.ndarray:
    """1 or 0 for each question whose words are known."""
    rows = [[_row(asked, word) for word in question] for question in questions]
    known = np.array([row for row in rows if None not in row], dtype=np.int64).reshape(-1, 4)
    words = asked.known
    place = np.full(len(asked.unit), -1)
    place[words] = np.arange(len(words))
    unit = asked.unit[words]
    right = []
    for begin in range(0, len(known), BLOCK):
        a, b, c, d = known[begin : begin + BLOCK].T
        cosines = (asked.unit[b] - asked.unit[a] + asked.unit[c]) @ unit.T
        for column in (a, b, c):
            cosines[np.arange(len(a)), place[column]] = -np.inf
        right.append(words[cosines.argmax(1)] == d)
    return np.concatenate([*right, np.zeros(0)]).astype(np.float64)
