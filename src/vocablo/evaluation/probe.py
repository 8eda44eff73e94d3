"""What each layer of a frozen model knows: a linear probe on every one, from the embeddings to the last.

A probe is a softmax regression (``softmax.py``) on the states of words (parts of speech, entities: files of columns) or on
means over texts, or over one word in each text (the sense of a word: tables). What it tells apart stands linearly in the
layer; beside it stand the most frequent label, which knows nothing, and the embeddings' probe, which knows no context.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vocablo.base import config
from vocablo.base.errors import ConfigError
from vocablo.base.progress import Progress, tell
from vocablo.base.random import generator
from vocablo.data import labels as naming
from vocablo.data.examples import TaggedExample
from vocablo.data.readers import Tell
from vocablo.data.tags import of_spans
from vocablo.evaluation import layers, softmax
from vocablo.inference.sentence_folder import opened
from vocablo.measures.classification import accuracy, f1
from vocablo.measures.measurement import Measurement, Score
from vocablo.measures.spans import span_f1, tag_accuracy
from vocablo.tasks import classify, tag
from vocablo.tasks._fitting import check_family, fitted
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.tasks._texts import Columns
from vocablo.views.layers import layer_curves
from vocablo.views.page import paragraph

TABLES = (".csv", ".tsv", ".jsonl")
WEIGHT = 1e-3  # of the probe's penalty


@dataclass(frozen=True, slots=True)
class LayerProbe:
    """The probe of one layer: its name, its measures on the held-out examples, and the loss and steps of its training."""

    layer: int
    name: str
    scores: tuple[Score, ...]
    loss: float
    steps: int


@dataclass(frozen=True, slots=True)
class Probe:
    """The probes of all layers. ``majority`` has the measures of always giving the training examples' most frequent label.

    ``rows`` and ``dev_rows`` are how many words (or texts) were learnt from and told.
    """

    model: str
    what: str
    labels: tuple[str, ...]
    rows: int
    dev_rows: int
    majority: tuple[Score, ...]
    layers: tuple[LayerProbe, ...]
    best: int

    def curves(self) -> str:
        """The measures over the layers, as SVG."""
        scores = [(one.name, [layer.scores[i].value for layer in self.layers]) for i, one in enumerate(self.majority)]
        return layer_curves(scores, [one.value for one in self.majority], f"Linear probes of {self.model}")

    def _repr_html_(self) -> str:
        return self.curves() + paragraph(f"{self.what}: {self.rows:,} to learn from, {self.dev_rows:,} held out.")


@dataclass(frozen=True, slots=True)
class _Part:
    """Examples of one file: the rows that are wanted, and each row's label."""

    wanted: layers.Wanted
    gold: tuple[str, ...]
    lengths: tuple[int, ...]  # rows of each sentence


def probe(
    model: str | Path,
    train: str | Path,
    dev: str | Path,
    *,
    columns: Mapping[str, Any] | None = None,
    word_column: str | None = None,
    fraction: float = 1.0,
    context: int | None = None,
    quiet: bool = False,
) -> Probe:
    """Train a probe on every layer with the labels of ``train`` and measure it on ``dev``.

    Files of columns (CoNLL, CoNLL-U) are probed word by word; tables (CSV, TSV, JSONL) and GLUE's files (``format``
    glue:NAME) text by text, or at the word that ``word_column`` has. ``columns`` are those of ``finetune``. ``fraction``
    learns from so much of the training examples, drawn by lot; ``context`` is how many tokens are read at most.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction is a share of the training examples, over 0 and up to 1; got {fraction}.")
    notes: Tell = (lambda note: None) if quiet else tell
    named = config.build(Columns, dict(columns or {}), "columns")
    words = _by_words(train, named, word_column)
    examples, held_out = (_examples(path, named, words, word_column, notes) for path in (train, dev))
    labels = naming.tag_set(examples, str(train)) if words else naming.label_set(examples, str(train))
    naming.check_known(held_out, labels, str(dev))
    if fraction < 1:
        order = generator(0, "fraction").permutation(len(examples))
        examples = [examples[i] for i in sorted(order[: max(1, round(fraction * len(order)))])]
    loaded, reader = _reader(model, context)
    parts = [_part(reader, some, words, word_column, str(path)) for some, path in ((examples, train), (held_out, dev))]
    measure = _measure(parts[1], labels, words)
    with tempfile.TemporaryDirectory(prefix="vocablo-probe-") as folder:
        known, asked = (
            layers.read(loaded, part.wanted, Path(folder), name, quiet)
            for part, name in zip(parts, ("train", "dev"), strict=True)
        )
        found = _probes(known, asked, parts[0], labels, measure, quiet)
    first = [one.scores[0].value for one in found]
    gold = parts[0].gold
    usual = max(labels, key=gold.count)
    what = ("a word's tag" if words else "a text's label") if word_column is None else "a word's label in its text"
    return Probe(
        str(model), what, labels, len(gold), len(parts[1].gold), _scores(measure([usual] * len(parts[1].gold))),
        tuple(found), int(np.argmax(first)),
    )  # fmt: skip


def _by_words(train: str | Path, columns: Columns, word_column: str | None) -> bool:
    """Whether a file is one of columns, word by word."""
    if columns.format is None:
        words = not any(suffix in TABLES for suffix in Path(train).suffixes)
    else:
        words = columns.format == "conll"
    if words and word_column is not None:
        raise ConfigError("--word-column is a column of a table of texts; a file of columns is probed word by word.")
    return words


def _examples(path: str | Path, columns: Columns, words: bool, word_column: str | None, notes: Tell) -> list[Any]:
    if words:
        return tag.read(path, columns, tag.Config(), notes=notes)
    if word_column is not None:
        columns = columns.model_copy(update={"pair": word_column})
    return classify.read(path, columns, classify.Config(), notes=notes)


def _reader(model: str | Path, context: int | None) -> tuple[Any, Reader]:
    """The frozen model and its reader. Raises ConfigError for one without states to look into."""
    loaded, _ = opened(model)
    assert loaded.tokenizer is not None
    check_family(loaded.model, "probe")
    made, tokenizer = fitted(loaded.model, loaded.tokenizer, pooler=False)
    return made, Reader(made, tokenizer, ReadSettings(context=context))


def _part(reader: Reader, examples: Sequence[Any], words: bool, word_column: str | None, where: str) -> _Part:
    if words:
        tagged: Sequence[TaggedExample] = examples
        gold = tuple(label for example in tagged for label in example.tags or ())
        return _Part(layers.of_words(reader, tagged, where), gold, tuple(len(example.words) for example in tagged))
    make = layers.of_texts if word_column is None else layers.of_word_in_text
    gold = tuple(str(example.label) for example in examples)
    return _Part(make(reader, examples, where), gold, (1,) * len(gold))


def _measure(part: _Part, labels: tuple[str, ...], words: bool) -> Any:
    """A function from a label for each row to the measures, the first of which compares layers."""

    def measure(given: Sequence[str]) -> tuple[Measurement, ...]:
        if not words:
            return accuracy(part.gold, given), f1(part.gold, given, average="macro", labels=labels)
        ends = np.cumsum((0, *part.lengths)).tolist()
        cut = lambda tags: [tags[a:b] for a, b in itertools.pairwise(ends)]  # noqa: E731
        right = tag_accuracy(cut(part.gold), cut(given))
        if of_spans([labels]):
            return span_f1(cut(part.gold), cut(given))[""].f1, right
        return right, f1(part.gold, given, average="macro", labels=labels)

    return measure


def _probes(
    known: list[Any], asked: list[Any], part: _Part, labels: tuple[str, ...], measure: Any, quiet: bool
) -> list[LayerProbe]:
    at = {label: number for number, label in enumerate(labels)}
    classes = np.array([at[label] for label in part.gold], dtype=np.int64)
    found = []
    with Progress("probe", len(known), "layers", quiet=quiet) as progress:
        for layer, (rows, others) in enumerate(zip(known, asked, strict=True)):
            learnt = softmax.fit(rows, classes, len(labels), weight=WEIGHT)
            given = [labels[number] for number in learnt.predict(others)]
            name = "embeddings" if layer == 0 else str(layer)
            found.append(LayerProbe(layer, name, _scores(measure(given)), learnt.loss, learnt.steps))
            progress.advance(1)
    return found


def _scores(measurements: Sequence[Measurement]) -> tuple[Score, ...]:
    return tuple(one.score(resamples=500) for one in measurements)
