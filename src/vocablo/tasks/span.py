"""Extractive question answering: the stretch of a context that answers a question, or that there is none (SQuAD 1.1, 2.0).

    p_start(i) = exp(s . h_i) / sum_j exp(s . h_j),  p_end alike      over the tokens of "question, context"
    loss       = -(log p_start(true start) + log p_end(true end)) / 2
    answer     = argmax of s . h_i + e . h_j over i <= j < i + ``answer`` within the context

(Devlin et al. 2019, sections 4.2 and 4.3.) A context that is longer than the model reads is read in windows that overlap,
each beginning ``stride`` tokens after the one before; a start counts in the window where it stands furthest inside. In a
window without the answer both ends are the first token; the score of that, the least over the windows, is that of having no
answer, which is given when it exceeds the best answer's score by more than ``threshold``. A model that reads from the left
has the same score there for every question, so only the scores of the others can say that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import tell
from vocablo.contract import Batch, Hidden, Target, Term
from vocablo.data import squad
from vocablo.data.examples import SpanExample
from vocablo.data.readers import Tell
from vocablo.measures import answers
from vocablo.measures.measurement import Measurement
from vocablo.nn.within import log_softmax_within
from vocablo.tasks import _task
from vocablo.tasks._reading import Heads, Reader, linear
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Advance, full
from vocablo.tasks._texts import Columns
from vocablo.text.tokenizer import Tokenizer

ABOUT = "a question and a context: the stretch of it that answers (SQuAD 1.1 and 2.0)"
HEAD = "span"
POOLED = False
VERB = "answer"
TEXTS = False
ASK = ('answer "..." --context "..."', "predict FILE --out predictions.json")
CONTEXT = 384  # tokens of a window, where read.context doesn't say


class Config(Settings):
    """``stride``, ``question`` and ``answer`` (the longest ones that are read, and given) are in tokens.

    ``threshold`` None: there is always an answer; fine-tuning sets it where held-out questions have none. ``language``
    chooses the articles that the measures leave out.
    """

    stride: int = Field(default=128, ge=1)
    question: int = Field(default=64, ge=1)
    answer: int = Field(default=30, ge=1)
    best: int = Field(default=20, ge=1)
    threshold: float | None = None
    language: Literal["en", "es"] = "en"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A possible answer: its text, its place in the context in characters, its score, and its share among those kept."""

    text: str
    start: int
    end: int
    score: float
    prob: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a question ("": none), its place in characters, and the ``best`` possible ones.

    ``no_answer`` is by how much the score of having none exceeds the best answer's. ``prob`` is an answer's share among the
    possible ones; where there is none, that of having none beside the best one's.
    """

    id: str
    question: str
    text: str
    start: int | None
    end: int | None
    prob: float
    no_answer: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The tokens of a context, their ``places`` [n, 2] in its characters, and which aren't white space [n]."""

    ids: list[int]
    places: NDArray[np.int64]
    written: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> Context:
        found = tokenizer.encode(text)
        written = [bool(text[begin:end].strip()) for begin, end in found.offsets.tolist()]
        return cls(found.ids, found.offsets, np.array(written, dtype=bool))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Part of an example's context as it is read: ``places`` [T, 2] are its tokens' characters, from token ``ahead`` on."""

    example: int
    ahead: int
    places: NDArray[np.int64]
    counts: NDArray[np.bool_]  # [T]: which tokens stand furthest inside in this window, and aren't white space
    start: int  # the true ends, as tokens of the sequence; 0: not in this window, or not known
    end: int


def read(
    path: str | Path, columns: Columns, settings: Config, *, labelled: bool = True, notes: Tell = tell
) -> list[SpanExample]:
    """The questions of a file in SQuAD's JSON."""
    if columns.format not in (None, "squad"):
        raise ConfigError(f"There is no format {columns.format!r} here; questions are read from SQuAD's JSON (squad).")
    return squad.read(path, training=labelled, notes=notes)[0]


def texts(examples: Iterable[SpanExample]) -> Iterator[str]:
    """All questions, and each context once."""
    seen: set[str] = set()
    for example in examples:
        yield example.question
        if example.context not in seen:
            seen.add(example.context)
            yield example.context


def labels(examples: Sequence[SpanExample], settings: Config, where: str) -> tuple[str, ...]:
    """None: the answers are each context's own."""
    return ()


def check_out(path: str | Path, columns: Columns) -> None:
    """Raise ConfigError for a file of predictions whose format isn't known."""
    if Path(path).suffix != ".json":
        raise ConfigError(f"Answers go into a .json file, as SQuAD has them, not into {path}.")


def write(path: str | Path, examples: Sequence[SpanExample], predictions: Sequence[Answered], columns: Columns) -> None:
    """The official predictions: id to answer."""
    squad.write_predictions(path, {one.id: one.text for one in predictions})


class Task:
    """See ``_task.Task``."""

    def __init__(self, reader: Reader, settings: Config, labels: Sequence[str]) -> None:
        self.reader, self.settings = reader, settings
        self.threshold = settings.threshold  # apart from the settings: those are what a resumed run is known by
        self.labels: tuple[str, ...] = ()
        self.names: tuple[str, ...] = ("start", "end", *reader.names)

    def heads(self) -> nn.ModuleDict:
        return nn.ModuleDict({**self.reader.heads(whole=False), HEAD: linear(self.reader.width, 2)})

    def prepare(self, examples: Sequence[SpanExample], heads: Heads, fresh: bool) -> None:
        """Nothing to take."""

    def encode(self, examples: Sequence[SpanExample], where: str, *, learn: bool = False) -> Encoded:
        """An example here is a window; ``values`` are the windows."""
        self.reader.check(pair=True)
        framed, windows = [], []
        shortened = 0
        known: dict[str, Context] = {}  # questions on one paragraph come one after another
        for number, example in enumerate(examples):
            if example.context not in known:
                known = {example.context: Context.of(self.reader.tokenizer, example.context)}
            context = known[example.context]
            question = self.reader.tokenizer.encode(example.question).ids
            if not question or not example.question.strip() or not context.written.any():
                raise DataError(f"{where}: question {example.id!r} or its context is empty.")
            shortened += len(question) > self.settings.question
            question = question[: self.settings.question]
            gold = _gold(example, context.places, where) if learn else None
            for window, ids in self._windows(number, question, context, gold):
                windows.append(window)
                framed.append(ids)
        if shortened:
            tell(
                f"{where}: {shortened:,} of {len(examples):,} questions are cut after {self.settings.question} tokens (task.question)"
            )
        return Encoded.of(framed, cut=[False] * len(windows), values=windows)

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        tokens = encoded.tokens(encoded.rows(which)[0])
        chosen: list[Window] = [encoded.values[place] for place in which.tolist()]
        begins, order = tokens.fences.first(), torch.arange(len(chosen))
        ends = {"start": [one.start for one in chosen], "end": [one.end for one in chosen]}
        targets = {name: Target(begins + torch.tensor(at), order, len(chosen)) for name, at in ends.items()}
        return self.reader.batch(tokens, targets)

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        hidden = self.reader.read(model, heads, batch.tokens)
        scores = self._scores(heads, hidden)
        found = {}
        for column, name in enumerate(("start", "end")):
            target = batch.targets[name]
            log_probs = log_softmax_within(scores[:, column], batch.tokens.fences)
            found[name] = Term(-log_probs.index_select(0, target.at).sum(), target.count, weight=0.5)
        return found | self.reader.extra(model, hidden, batch)

    def predict(
        self, model: Any, heads: Heads, examples: Sequence[SpanExample], advance: Advance | None = None
    ) -> list[Answered]:
        encoded = self.encode(examples, "the questions")
        found: list[list[tuple[float, int, int]]] = [[] for _ in examples]
        none = [math.inf] * len(examples)
        told = _task.in_parts(advance, len(examples), len(encoded))
        for which, hidden, fences, _ in _task.passes(self.reader, model, heads, encoded, told):
            scores = self._scores(heads, hidden).double().cpu().split(list(fences.lengths))
            for place, part in zip(which, scores, strict=True):
                window: Window = encoded.values[place]
                none[window.example] = min(none[window.example], float(part[0].sum()))
                found[window.example] += _spans(window, part.numpy(), self.settings)
        return [
            self._answered(example, spans, null) for example, spans, null in zip(examples, found, none, strict=True)
        ]

    def measures(self, examples: Sequence[SpanExample], predictions: Sequence[Answered]) -> dict[str, Measurement]:
        return self._measured(examples, [one.text for one in predictions])

    def tune(self, examples: Sequence[SpanExample], predictions: Sequence[Answered]) -> Sequence[Answered]:
        """Set the threshold to what is best for F1, where some questions have no answer."""
        if not any(example.impossible for example in examples):
            return predictions
        always = [one.alternatives[0].text for one in predictions]
        gaps = [one.no_answer for one in predictions]
        answerable = [not example.impossible for example in examples]
        best = answers.best_threshold(self._measured(examples, always)["f1"], answerable, [True] * len(always), gaps)
        never = best.value <= answerable.count(False) / len(answerable)  # as good as always saying that there is none
        self.threshold = min(gaps) - 1.0 if never else best.threshold
        return [self._decided(one) for one in predictions]

    def saved(self, heads: Heads) -> Heads:
        return heads

    def told(self) -> dict[str, Any]:
        told = _task.told(self, "span")
        if self.threshold is not None:
            told["vocablo_task"]["settings"]["threshold"] = self.threshold
        return told

    def _measured(self, examples: Sequence[SpanExample], given: Sequence[str]) -> dict[str, Measurement]:
        gold = [[answer.text for answer in example.answers or ()] for example in examples]
        version = "2.0" if any(example.impossible for example in examples) else "1.1"
        exact, f1 = answers.squad(gold, list(given), version=version, language=self.settings.language)
        return {"f1": f1, "exact match": exact}

    def _scores(self, heads: Heads, hidden: Hidden) -> Tensor:
        return full(heads[HEAD](self.reader.dropped(hidden.states)))

    def _windows(
        self, number: int, question: list[int], context: Context, gold: tuple[int, int] | None
    ) -> Iterator[tuple[Window, tuple[list[int], list[int]]]]:
        frame = self.reader.template.two
        limit = self.reader.settings.context or min(CONTEXT, self.reader.context or CONTEXT)
        room = limit - frame.special_count - len(question)
        if room < 2:
            raise ConfigError(
                f"With {limit} tokens to read and a question of {len(question)} there is no room for a context: raise "
                "read.context, or lower task.question."
            )
        size = len(context.ids)
        stride = min(self.settings.stride, max(1, room // 2))
        begins = [0] if size <= room else [*range(0, size - room, stride), size - room]
        ahead = len(frame.specials[0]) + len(question) + len(frame.specials[1])
        inside = _furthest(begins, min(room, size), size)
        for index, begin in enumerate(begins):
            stop = min(begin + room, size)
            start = end = 0
            if gold is not None and begin <= gold[0] and gold[1] < stop:
                start, end = (ahead + token - begin for token in gold)
            counts = (inside[begin:stop] == index) & context.written[begin:stop]
            window = Window(number, ahead, context.places[begin:stop], counts, start, end)
            yield window, frame(question, context.ids[begin:stop])

    def _answered(self, example: SpanExample, spans: list[tuple[float, int, int]], null: float) -> Answered:
        if not spans:
            raise DataError(f"question {example.id!r}: the model's scores aren't finite numbers.")
        kept: dict[str, tuple[float, int, int]] = {}
        for score, start, end in sorted(spans, key=lambda one: (-one[0], one[1], one[2])):
            text = example.context[start:end]
            begin = start + len(text) - len(text.lstrip())  # the space before a word is part of some tokenizers' tokens
            text = text.strip()
            if len(kept) < self.settings.best:
                kept.setdefault(text, (score, begin, begin + len(text)))
        scores = np.array([score for score, _, _ in kept.values()])
        share = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        made = tuple(
            Alternative(text, start, end, score, float(prob))
            for (text, (score, start, end)), prob in zip(kept.items(), share, strict=True)
        )
        gap = null - made[0].score
        return self._decided(Answered(example.id, example.question, "", None, None, 0.0, gap, made))

    def _decided(self, one: Answered) -> Answered:
        """With an answer, or without one where the threshold says so."""
        if self.threshold is not None and one.no_answer > self.threshold:
            prob = 1 / (1 + math.exp(-max(one.no_answer, -700.0)))
            return replace(one, text="", start=None, end=None, prob=prob)
        best = one.alternatives[0]
        return replace(one, text=best.text, start=best.start, end=best.end, prob=best.prob)


def _gold(example: SpanExample, places: NDArray[np.int64], where: str) -> tuple[int, int] | None:
    """The tokens of the first true answer, both included; None where there is none."""
    if example.impossible:
        return None
    if not example.answers:
        raise DataError(f"{where}: question {example.id!r} has no answer and isn't marked impossible.")
    answer = example.answers[0]
    start = example.context.find(answer.text) if answer.start is None else answer.start
    if start < 0 or example.context[start : start + len(answer.text)] != answer.text:
        raise DataError(f"{where}: question {example.id!r}: its context doesn't have {answer.text!r:.60} at {start}.")
    touched = np.flatnonzero((places[:, 1] > start) & (places[:, 0] < start + len(answer.text)))
    if not len(touched):
        raise DataError(
            f"{where}: question {example.id!r}: the tokenizer leaves nothing of its answer {answer.text!r:.60}."
        )
    return int(touched[0]), int(touched[-1])


def _furthest(begins: Sequence[int], room: int, size: int) -> Ints:
    """For each token of a context the window in which it stands furthest from both borders."""
    best = np.full(size, -1, dtype=np.int64)
    window = np.zeros(size, dtype=np.int64)
    depth = np.minimum(np.arange(room), np.arange(room)[::-1])
    for index, begin in enumerate(begins):
        here = slice(begin, begin + room)
        better = depth > best[here]
        window[here][better] = index
        best[here][better] = depth[better]
    return window


def _spans(window: Window, scores: NDArray[np.float64], settings: Config) -> list[tuple[float, int, int]]:
    """The best spans of a window: score, and characters from and to in the context."""
    size = len(window.places)
    begins, ends = scores[window.ahead : window.ahead + size].T
    most = min(settings.answer, size)
    padded = np.concatenate([ends, np.full(most, -math.inf)])
    table = begins[:, None] + np.lib.stride_tricks.sliding_window_view(padded, most)[:size]
    table = np.where(window.counts[:, None], table, -math.inf)
    order = np.argsort(-table, axis=None, kind="stable")[: 2 * settings.best]
    found = []
    for place in order.tolist():
        first, more = divmod(place, most)
        if math.isfinite(table[first, more]):
            span = (int(window.places[first, 0]), int(window.places[first + more, 1]))
            found.append((float(table[first, more]), *span))
    return found
