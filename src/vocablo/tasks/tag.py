"""Tagging: a tag for each word of a sentence (named entities, parts of speech).

    p(y_i | x) = softmax(W h_i + b)      h_i: the state of the word's first token      loss -log p of the true tags

BERT reads a word's first token (Devlin et al. 2019, section 5.3); a model that reads from the left its last one, the first
that has seen the whole word. With ``crf`` the tags of a sentence are told together (``nn/crf.py``). With ``around`` a
sentence is read with so many tokens of its document on either side, whose words aren't told there (a file that marks no
documents is one, and so are the sentences that are asked about together). A sentence longer than
the model reads is cut into windows that overlap; each word is told in the one where it stands furthest inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.contract import Batch, Fences, Target, Term
from vocablo.data import conll, tables
from vocablo.data import labels as naming
from vocablo.data.examples import TaggedExample
from vocablo.data.readers import Tell
from vocablo.data.tags import of_spans
from vocablo.measures.measurement import Measurement
from vocablo.measures.spans import span_f1, spans, tag_accuracy
from vocablo.nn.crf import CRF
from vocablo.tasks import _task, _texts
from vocablo.tasks._reading import Heads, Reader, linear
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Advance, full
from vocablo.tasks._texts import Columns
from vocablo.tasks._words import Window, windows

ABOUT = "the words of a sentence: a tag each (entities, parts of speech)"
HEAD = "tag"
POOLED = False
VERB = "tag"
TEXTS = False
ASK = ('tag "..."', "predict FILE --out predictions.conll")
FORMATS = ("conll", "table")
WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")


class Config(Settings):
    """``crf``: tags of a sentence are told together; ``around``: tokens of its document read on either side."""

    crf: bool = False
    around: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Found:
    """A span of words, from ``start`` to ``end`` (one past the last), its text and its type."""

    start: int
    end: int
    text: str
    type: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """The tags of a sentence's words, the probability of each, and the spans that they mark, if they mark any."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    probs: tuple[float, ...]
    spans: tuple[Found, ...]


def read(
    path: str | Path, columns: Columns, settings: Config, *, labelled: bool = True, notes: Tell = tell
) -> list[TaggedExample]:
    """CoNLL's or CoNLL-U's columns, or JSONL with lists of words and tags.

    The columns are ``columns.label`` (or ``tags``) and ``columns.text`` (or ``words``): of CoNLL their places from 0 (negative:
    from the end; default: the last field), of CoNLL-U the name of the tags' column.
    """
    usual = Columns()
    tags = columns.label if columns.label != usual.label else columns.tags
    words = columns.text if columns.text != usual.text else columns.words
    form = columns.format or ("table" if ".jsonl" in Path(path).name else "conll")
    if form not in FORMATS:
        raise ConfigError(f"There is no format {form!r} here{nearest(form, FORMATS)}")
    if form == "table":
        return tables.read_tagged(
            path, words=words, tags=tags if labelled else None, encoding=columns.encoding, notes=notes
        )
    tag: int | str | None = -1
    if tags != usual.tags:
        tag = int(tags) if tags.lstrip("-").isdecimal() else tags
    if words != usual.words and not words.isdecimal():
        raise ConfigError(f"The words of {path} are in a column by its place, as 0, not {words!r}.")
    word = int(words) if words.isdecimal() else 0
    return conll.read(path, tag=tag if labelled else None, word=word, encoding=columns.encoding, notes=notes)


def words_of(text: str) -> tuple[str, ...]:
    """The words and marks of a running text, as corpora of tags set them apart."""
    return tuple(WORD.findall(text))


def texts(examples: Iterable[TaggedExample]) -> Iterator[str]:
    """All sentences."""
    for example in examples:
        yield " ".join(example.words)


def labels(examples: Sequence[TaggedExample], settings: Config, where: str) -> tuple[str, ...]:
    """The tags that training sentences have."""
    return naming.tag_set(examples, where)


def check_out(path: str | Path, columns: Columns) -> None:
    """Raise ConfigError for a file of predictions whose format isn't known."""
    if Path(path).suffix not in (".conll", ".txt", ".tsv", ".jsonl"):
        raise ConfigError(f"Tags go into .conll, .txt or .tsv files (columns) or .jsonl, not into {path}.")


def write(path: str | Path, examples: Sequence[TaggedExample], predictions: Sequence[Tagged], columns: Columns) -> None:
    """Columns word, true tag where it is known, predicted tag; or JSONL with lists."""
    if Path(path).suffix == ".jsonl":
        rows = [{"id": one.id, "tokens": list(one.words), "tags": list(one.tags)} for one in predictions]
        _texts.write_table(path, rows)
        return
    conll.write(path, examples, [one.tags for one in predictions])


class Task:
    """See ``_task.Task``."""

    def __init__(self, reader: Reader, settings: Config, labels: Sequence[str]) -> None:
        self.reader, self.settings, self.labels = reader, settings, tuple(labels)
        self.names: tuple[str, ...] = (HEAD, *reader.names)

    def heads(self) -> nn.ModuleDict:
        made = {**self.reader.heads(whole=False), HEAD: linear(self.reader.width, len(self.labels))}
        return nn.ModuleDict(made | ({"crf": CRF(len(self.labels))} if self.settings.crf else {}))

    def prepare(self, examples: Sequence[TaggedExample], heads: Heads, fresh: bool) -> None:
        """Nothing to take."""

    def encode(self, examples: Sequence[TaggedExample], where: str, *, learn: bool = False) -> Encoded:
        """An example here is a window; ``values`` are the windows, and the tags of their words where they are known."""
        self.reader.check(pair=False)
        made = windows(self.reader, examples, self.settings.around, last=self.reader.reads == "left", where=where)
        values = [(window, self._tags(examples[window.sentence], window, where) if learn else None) for window in made]
        return Encoded.of([window.framed for window in made], cut=[False] * len(made), values=values)

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        tokens = encoded.tokens(encoded.rows(which)[0])
        chosen = [encoded.values[place] for place in which.tolist()]
        at = _places([window for window, _ in chosen], tokens.fences)
        value = torch.from_numpy(np.concatenate([tags for _, tags in chosen]))
        groups = Fences.of([len(window.at) for window, _ in chosen])
        return self.reader.batch(tokens, {HEAD: Target(at, value, len(value))}, groups)

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        hidden = self.reader.read(model, heads, batch.tokens)
        target = batch.targets[HEAD]
        scores = self._scores(heads, hidden.states, target.at)
        if "crf" in heads:
            crf: Any = heads["crf"]
            assert batch.groups is not None
            loss = -crf.log_prob(scores, batch.groups, target.value).sum()
        else:
            loss = F.cross_entropy(scores, target.value, reduction="sum")
        return {HEAD: Term(loss, target.count), **self.reader.extra(model, hidden, batch)}

    def predict(
        self, model: Any, heads: Heads, examples: Sequence[TaggedExample], advance: Advance | None = None
    ) -> list[Tagged]:
        encoded = self.encode(examples, "the sentences")
        tags = [[""] * len(example.words) for example in examples]
        probs = [[0.0] * len(example.words) for example in examples]
        told = _task.in_parts(advance, len(examples), len(encoded))
        for which, hidden, fences, _ in _task.passes(self.reader, model, heads, encoded, told):
            chosen = [encoded.values[place][0] for place in which]
            scores = self._scores(heads, hidden.states, _places(chosen, fences).to(hidden.states.device))
            best, share = self._best(heads, scores, Fences.of([len(window.at) for window in chosen], scores.device))
            found = iter(zip(best.tolist(), share.tolist(), strict=True))
            for window in chosen:
                for word in window.words:
                    tag, prob = next(found)
                    tags[window.sentence][word], probs[window.sentence][word] = self.labels[tag], prob
        marks = of_spans([self.labels])
        return [
            Tagged(one.id, one.words, tuple(tag), tuple(prob), _found(one.words, tag) if marks else ())
            for one, tag, prob in zip(examples, tags, probs, strict=True)
        ]

    def measures(self, examples: Sequence[TaggedExample], predictions: Sequence[Tagged]) -> dict[str, Measurement]:
        gold = [example.tags or () for example in examples]
        given = [one.tags for one in predictions]
        found = {"tag accuracy": tag_accuracy(gold, given)}
        if not of_spans([self.labels]):
            return found
        measured = {mode: span_f1(gold, given, mode)[""] for mode in ("lenient", "strict")}
        lenient = measured["lenient"]
        f1s = {"f1": lenient.f1, "precision": lenient.precision, "recall": lenient.recall}
        return f1s | {"strict f1": replace(measured["strict"].f1, name="strict f1")} | found

    def tune(self, examples: Sequence[TaggedExample], predictions: Sequence[Tagged]) -> Sequence[Tagged]:
        """Nothing to fix."""
        return predictions

    def saved(self, heads: Heads) -> Heads:
        return heads

    def told(self) -> dict[str, Any]:
        return _task.told(self, "tag")

    def _scores(self, heads: Heads, states: Tensor, at: Tensor) -> Tensor:
        return full(heads[HEAD](self.reader.dropped(states.index_select(0, at))))

    def _best(self, heads: Heads, scores: Tensor, fences: Fences) -> tuple[Tensor, Tensor]:
        """The tag of each word, and its probability: of a CRF, over all the sequences of tags that have it there."""
        if "crf" not in heads:
            probs = scores.double().softmax(1)
            best = probs.argmax(1)
        else:
            crf: Any = heads["crf"]
            best, probs = crf.viterbi(scores, fences), crf.marginals(scores, fences)
        return best, probs.gather(1, best[:, None]).squeeze(1)

    def _tags(self, example: TaggedExample, window: Window, where: str) -> Ints:
        tags = example.tags
        if tags is None or len(tags) != len(example.words):
            count = "no" if tags is None else str(len(tags))
            raise DataError(f"{where}: sentence {example.id} has {len(example.words)} words and {count} tags.")
        try:
            return np.array([self.labels.index(tags[word]) for word in window.words], dtype=np.int64)
        except ValueError:
            naming.check_known([example], self.labels, where)
            raise


def _places(chosen: Sequence[Window], fences: Fences) -> Tensor:
    """Where in a batch the words of its windows are told, [M]."""
    return torch.tensor(
        [start + at for start, window in zip(fences.starts(), chosen, strict=False) for at in window.at],
        dtype=torch.long,
    )


def _found(words: Sequence[str], tags: Sequence[str]) -> tuple[Found, ...]:
    return tuple(Found(one.start, one.end, " ".join(words[one.start : one.end]), one.type) for one in spans(tags))
