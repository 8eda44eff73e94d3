"""Any set of models on one held-out text: n-gram to Transformer in one table.

A model is asked in its own way of reading, and what comes out is of one kind: the chain rule of models that read from the
left, both directions of ELMo, the pseudo-log-likelihood of those that read both ways. Numbers of different kinds never share a column or a ranking: a
kind is a section, ranked within itself. What gives a text no probability (vectors of words, a classifier) says so in a line.

Within a kind, models of one tokenizer are ranked by their perplexity. Where tokenizers differ that per token means nothing;
they are ranked by the perplexity per word, whose order is that of bits per byte, but for those that can't be: a model with
``<unk>`` in the text pays too little for it, and a tokenizer that loses case gives the probability of several texts together.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.data.readers import read_documents
from vocablo.evaluation.scorers import SCORERS, Scorer
from vocablo.evaluation.training_cost import TrainingCost, cost_of
from vocablo.inference.pseudo import VARIANTS
from vocablo.measures.likelihood import Likelihood
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import count_words
from vocablo.training.pretrain import parameters
from vocablo.training.recipe import MODELS
from vocablo.views.compare import as_html
from vocablo.views.page import page

Load = Callable[[str], Any]  # of a folder or name, as ``api.load``


@dataclass(frozen=True, slots=True)
class Held:
    """The text that models are compared on. ``documents`` are what one of them is (file, line, paragraph)."""

    sources: tuple[str, ...]
    documents: str = "file"
    column: str | None = None
    encoding: str = "utf-8"

    def read(self, quiet: bool = True) -> Iterator[str]:
        """The documents, one after the other. Raises DataError at once for files that can't be read."""
        notes = None if quiet else tell
        found = read_documents(
            self.sources, documents=self.documents, column=self.column, encoding=self.encoding, notes=notes
        )
        return (document.text for document in found)


@dataclass(frozen=True, slots=True)
class How:
    """``stride`` of the windows of texts over a model's context, ``variant`` of pseudo-log-likelihood (``inference.pseudo``).

    Raises ConfigError for a stride below 1 or a variant that doesn't exist.
    """

    stride: int | None = None
    variant: str = "token"
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"--stride is at least 1; got {self.stride}.")
        if self.variant not in VARIANTS:
            raise ConfigError(f"There is no variant {self.variant!r}{nearest(self.variant, VARIANTS)}")


@dataclass(frozen=True, slots=True)
class Compared:
    """One model: what it makes of the text, in ``likelihood`` (None, and ``absent`` says why), and what it took.

    ``rank`` is among the models of its section; where it is None, ``unranked`` says why. ``tokens_per_second`` is the speed
    of scoring here. ``tokenizer`` is the kind and the vocabulary.
    """

    model: str
    name: str
    family: str
    parameters: int
    tokenizer: str
    likelihood: Likelihood | None = None
    absent: str | None = None
    rank: int | None = None
    unranked: str | None = None
    tokens_per_second: float | None = None
    training: TrainingCost | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Models whose numbers are of one ``kind``, best first. ``measure`` is what ``likelihood.perplexity`` is of them."""

    kind: str
    about: str
    measure: str
    models: tuple[Compared, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one family that differ in their seed: the mean perplexities and their standard deviations."""

    name: str
    kind: str
    runs: int
    perplexity: float
    perplexity_deviation: float
    word_perplexity: float
    word_perplexity_deviation: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models on one text of so many documents, words (between white space) and bytes of UTF-8.

    ``one_tokenizer``: all that were scored share it, so perplexities per token are comparable. ``equal`` says at what cost
    the models were trained for the comparison, if they were, and ``spreads`` what came out over several seeds.
    """

    text: tuple[str, ...]
    documents: int
    words: int
    bytes: int
    one_tokenizer: bool
    sections: tuple[Section, ...]
    unscored: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    equal: str | None = None
    spreads: tuple[Spread, ...] = ()

    def _repr_html_(self) -> str:
        return as_html(self)

    def html(self) -> str:
        """A page of one file."""
        return page("Models compared", [self._repr_html_()])


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that was opened: ``asked`` is None when it can't be asked anything, for the reason ``absent``."""

    model: str
    name: str
    asked: Any
    scorer: Scorer | None
    absent: str | None


def compare(models: Sequence[str | Path], held: Held, load: Load, how: How | None = None) -> Comparison:
    """Score every model on the text. Everything that can be known before is refused before the first is scored.

    Raises CheckpointError for a model that is missing or damaged, ConfigError for one that is given twice, when none of them
    gives a text a probability, and for a text over a model's context without a ``stride``.
    """
    how = how or How()
    names = [str(one) for one in models]
    if not names:
        raise ConfigError("Which models? Name folders, .arpa files or hub names.")
    check_models(names)
    texts = list(held.read(how.quiet))
    entries = opened(names, texts, load, how)
    if all(one.scorer is None for one in entries):
        reasons = "; ".join(f"{one.name} {one.absent}" for one in entries)
        raise ConfigError(f"None of these models gives a text a probability: {reasons}.")
    found = [_scored(one, texts, how) for one in entries]
    return _together(found, entries, held, texts, how)


def opened(models: Sequence[str], texts: Sequence[str], load: Load, how: How) -> list[Entry]:
    """The models, ready to be asked. Raises, with the model's name, for one that can't read all of the texts."""
    entries = [_open(name, label, load) for name, label in zip(models, _labels(models), strict=True)]
    for one in entries:
        if one.scorer is not None:
            check_texts(one.name, one.scorer, one.asked, texts, how.stride)
    return entries


def check_texts(name: str, scorer: Scorer, asked: Any, texts: Sequence[str], stride: int | None) -> None:
    """Raise, with the ``name`` before the reason, for texts that a model can't read whole."""
    try:
        scorer.check(asked, texts, stride)
    except (ConfigError, DataError) as error:
        raise type(error)(f"{name}: {error}") from None


def spread(found: Comparison, runs: Mapping[str, Sequence[str]]) -> tuple[Spread, ...]:
    """What came out over seeds, for each of ``runs`` (a name and its models, as they were given) of several models."""
    rows = {one.model: (section, one.likelihood) for section in found.sections for one in section.models}
    spreads = []
    for name, models in runs.items():
        if len(models) > 1:
            section, told = rows[models[0]][0], [rows[one][1] for one in models]
            token, word = ([getattr(one, key) for one in told] for key in ("perplexity", "word_perplexity"))
            spreads.append(Spread(name, section.kind, len(models), *_spread(token), *_spread(word)))
    return tuple(spreads)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; the latter isn't a number where a value is infinite, as per word without white space."""
    return statistics.fmean(values), statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def check_models(models: Sequence[str | Path]) -> None:
    """Raise for what is given twice, missing or damaged, before any weights are read."""
    places: dict[str, str] = {}
    for name in map(str, models):
        place = str(Path(name).resolve()) if Path(name).exists() else name
        if place in places:
            raise ConfigError(
                f"{name} is given twice" + ("." if places[place] == name else f", as {places[place]} too.")
            )
        places[place] = name
    for name in places.values():
        checkpoint.describe(name)


def _labels(names: Sequence[str]) -> list[str]:
    """The last part of each path, and as many before it as tell all apart."""
    parts = [Path(name).parts for name in names]
    for count in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(one[-count:]) for one in parts]
        if len(set(labels)) == len(labels):
            return labels
    return list(names)


def _open(model: str, name: str, load: Load) -> Entry:
    try:
        asked = load(model)
    except ConfigError as error:  # a way of reading that no verb is for
        return Entry(model, name, None, None, str(error).rstrip("."))
    scorer = SCORERS.get(asked.model.reads)
    reason = f"gives a text no probability ({asked.what})"
    if scorer is None or not scorer.able(asked):
        return Entry(model, name, asked, None, reason)
    return Entry(model, name, asked, scorer, None)


def _scored(one: Entry, texts: Sequence[str], how: How) -> Compared:
    if one.asked is None:
        about = checkpoint.describe(one.model)
        return Compared(
            one.model, one.name, about.family, about.parameters, about.tokenizer or "none", absent=one.absent
        )
    model, tokenizer = one.asked.model, one.asked.tokenizer
    row = Compared(
        one.model, one.name, _family(model), parameters(model), f"{tokenizer.kind} {tokenizer.size:,}",
        training=cost_of(one.model, model),
    )  # fmt: skip
    if one.scorer is None:
        return replace(row, absent=one.absent)
    if not how.quiet:
        tell(f"{one.name} ...")
    begun = time.perf_counter()
    likelihood = one.scorer.score(one.asked, texts, how.stride, how.variant, how.quiet)
    rate = likelihood.tokens / max(time.perf_counter() - begun, 1e-9)
    return replace(row, likelihood=likelihood, tokens_per_second=rate)


def _family(model: Any) -> str:
    return registry.load(MODELS, type(model).__module__.rpartition(".")[2]).family_of(model.config)


def _together(
    found: Sequence[Compared], entries: Sequence[Entry], held: Held, texts: Sequence[str], how: How
) -> Comparison:
    tokenizers = {one.name: one.asked.tokenizer for one in entries if one.scorer is not None}
    reads = {one.name: one.asked.model.reads for one in entries if one.scorer is not None}
    shared = len({one.hash for one in tokenizers.values()}) == 1
    lossless = _lossless(tokenizers.values(), texts) if not shared else {}
    sections, notes = [], []
    for kind, scorer in SCORERS.items():
        rows = [one for one in found if reads.get(one.name) == kind]
        if rows:
            same = len({tokenizers[one.name].hash for one in rows}) == 1
            kept = {one.name for one in rows if same or lossless[tokenizers[one.name].hash]}
            ranked = tuple(_ranked(rows, kept, same))
            sections.append(Section(scorer.kind(how.variant), scorer.ABOUT, scorer.MEASURE, ranked))
            notes += scorer.notes([(tokenizers[one.name], one.likelihood) for one in rows], how.variant)
    return Comparison(
        held.sources, len(texts), sum(map(count_words, texts)), sum(len(text.encode()) for text in texts), shared,
        tuple(sections), tuple(one for one in found if one.likelihood is None), tuple(notes),
    )  # fmt: skip


def _ranked(rows: Sequence[Compared], lossless: set[str], same: bool) -> list[Compared]:
    """Best first; those that can't be ranked beside other tokenizers come last, each with the reason."""

    def reason(one: Compared) -> str | None:
        assert one.likelihood is not None
        if not one.likelihood.tokens:
            return "it scored no token of the text"
        if same:
            return None
        if one.likelihood.unknown:
            return "its <unk> cost too little beside other tokenizers"
        return None if one.name in lossless else "its tokenizer loses more of the text than white space"

    def key(one: Compared) -> float:
        """The logarithm of the perplexity, which is finite where that is over the range of floats."""
        assert one.likelihood is not None
        return -one.likelihood.log_prob / (one.likelihood.tokens if same else max(one.likelihood.words, 1))

    reasons = {one.name: reason(one) for one in rows}
    order = sorted((one for one in rows if reasons[one.name] is None), key=key)
    places = [replace(one, rank=number) for number, one in enumerate(order, 1)]
    return places + [replace(one, unranked=reasons[one.name]) for one in rows if reasons[one.name] is not None]


def _lossless(tokenizers: Any, texts: Sequence[str]) -> dict[str, bool]:
    """Whether each tokenizer, by its hash, gives the text back but for white space."""

    def whole(tokenizer: Tokenizer) -> bool:
        return all(
            "".join(tokenizer.decode(ids).split()) == "".join(text.split())
            for text, ids in zip(texts, Tokenizer.encode_batch(tokenizer, list(texts)), strict=True)
        )

    return {one.hash: whole(one) for one in {one.hash: one for one in tokenizers}.values()}
