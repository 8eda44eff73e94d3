"""Scores of a model that reads both ways: pseudo-log-likelihood (Salazar et al. 2020), never to be ranked beside a chain rule.

    token      PLL(x) = sum_t log p(x_t | x without x_t)                          one copy of the text for each token
    word_l2r   the same, with the later pieces of x_t's word hidden as well       (Kauf and Ivanova 2023)

Hiding one piece of a long word leaves the others to give it away; ``word_l2r`` reads a word from left to right, given what
is around it. A word is one of the tokenizer's own (``Encoding.words``), as in their code; where all words are of one piece
the two are equal. Special tokens around the text are never hidden or scored.

The copies of a text have one length and go through the model as a dense group, without padding; only the hidden places
reach the head. A text over the model's context is an error unless a ``stride`` is given: then windows are read, each
``stride`` tokens further on, and a token is scored in the one where it has most on its shorter side.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import Progress
from vocablo.contract import BothModel, Fences, Tokens
from vocablo.data.order import by_length
from vocablo.inference.framing import Framing, mask_of, states_of
from vocablo.inference.reading import BATCH_TOKENS, Floats, Ints, asking, device_of, spelled
from vocablo.inference.score import WordScore, convention_named
from vocablo.measures.likelihood import perplexity_of
from vocablo.text.tokenizer import Encoding, Tokenizer

VARIANTS = ("token", "word_l2r")
TEXTS = 256  # texts whose copies are sorted by length together


@dataclass(frozen=True, slots=True)
class PseudoScore:
    """The pseudo-log-likelihood of a text, in nats. ``log_probs`` has one number for each of ``tokens``.

    A special token written in the text itself is not scored and has None. ``variant`` is ``token`` or ``word_l2r``, and
    ``unknown`` counts the tokens that stand for text that the vocabulary lacks.
    """

    text: str
    tokens: list[str]
    ids: list[int]
    log_probs: list[float | None]
    words: list[WordScore]
    variant: str
    convention: str
    unknown: int

    @property
    def kind(self) -> str:
        """What the numbers are; scores of different kinds are not comparable."""
        return f"pseudo-log-likelihood ({self.variant})"

    @property
    def log_prob(self) -> float:
        """The sum: PLL."""
        return sum(value for value in self.log_probs if value is not None)

    @property
    def mean_log_prob(self) -> float:
        """Per scored token; not a number when there is none."""
        scored = sum(value is not None for value in self.log_probs)
        return self.log_prob / scored if scored else float("nan")

    @property
    def value(self) -> float:
        """What the convention ranks texts by."""
        return self.mean_log_prob if self.convention == "minicons" else self.log_prob

    @property
    def pseudo_perplexity(self) -> float:
        """exp(-PLL / tokens); over many texts, sums are to be divided by sums (PPPL)."""
        return perplexity_of(self.log_prob, sum(value is not None for value in self.log_probs))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One text or window: its sequence [T], which places are scored [n], and for each the places that are hidden, [n, T]."""

    sequence: Ints
    places: Ints
    hidden: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Copies:
    """Some of the copies of a reading: ``rows`` of its scored places."""

    reading: int
    rows: slice


def pseudo_log_likelihood(
    model: BothModel,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    variant: str = "token",
    stride: int | None = None,
    convention: str = "vocablo",
    quiet: bool = True,
) -> Iterator[PseudoScore]:
    """The scores of texts, in their order, as they are asked for; see the module's docstring.

    Raises ConfigError for an unknown variant or convention, DataError for a text with a mask or over the context.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"There is no variant {variant!r}{nearest(variant, VARIANTS)}")
    convention_named(convention)
    return _scores(_Scorer(model, tokenizer, variant, stride), texts, convention, quiet)


def _scores(scorer: _Scorer, texts: Iterable[str], convention: str, quiet: bool) -> Iterator[PseudoScore]:
    with Progress("scoring", None, "tokens", quiet=quiet) as progress:
        for some in _taken(texts, TEXTS):
            encodings = [scorer.tokenizer.encode(text) for text in some]
            found = scorer.score(some, encodings)
            for text, encoding, values in zip(some, encodings, found, strict=True):
                yield replace(_result(scorer, text, encoding, values), convention=convention)
            progress.advance(sum(len(encoding.ids) for encoding in encodings))


def _taken(texts: Iterable[str], count: int) -> Iterator[list[str]]:
    some: list[str] = []
    for text in texts:
        some.append(text)
        if len(some) == count:
            yield some
            some = []
    if some:
        yield some


class _Scorer:
    def __init__(self, model: BothModel, tokenizer: Tokenizer, variant: str, stride: int | None) -> None:
        self.model, self.tokenizer, self.variant = model, tokenizer, variant
        self.framing, self.mask = Framing(model, tokenizer), mask_of(tokenizer)
        room = self.framing.room
        if stride is not None and room is not None and not 1 <= stride <= room:
            raise ConfigError(f"stride is at least 1 and at most the {room} tokens that fit; got {stride}.")
        self.stride = stride
        self.never = np.array(
            [one for one in (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id) if one is not None]
        )

    def score(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> list[Floats]:
        """log p of every token of each text; not a number where a token isn't scored."""
        results = [np.full(len(encoding.ids), np.nan) for encoding in encodings]
        readings: list[_Reading] = []
        owners: list[tuple[int, Ints]] = []
        for number, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            for begin, end, scored in self._windows(text, encoding):
                readings.append(self._reading(encoding, begin, end, scored))
                owners.append((number, scored))
        found = [np.zeros(len(reading.places)) for reading in readings]
        with asking(self.model):
            for batch in _batches(readings):
                self._read(readings, batch, found)
        for (number, scored), values in zip(owners, found, strict=True):
            results[number][scored] = values
        return results

    def _windows(self, text: str, encoding: Encoding) -> Iterator[tuple[int, int, Ints]]:
        """Begin, end and scored tokens of each window: one window when the text fits."""
        ids = np.array(encoding.ids, dtype=np.int64)
        if self.mask in encoding.ids:
            raise DataError(
                f"The text {text[:40]!r} has a mask, whose probability means nothing: fill it, or leave it out."
            )
        scored = np.flatnonzero(~np.isin(ids, self.never))
        room = self.framing.room
        if room is None or len(ids) <= room:
            yield 0, len(ids), scored
            return
        if self.stride is None:
            way = f"pass --stride {max(room // 2, 1)} (stride=, in Python) to read it in overlapping windows"
            self.framing.require(encoding.ids, text, way)
        begins = np.array([*range(0, len(ids) - room, self.stride or 1), len(ids) - room])
        sides = np.minimum(scored[:, None] - begins, begins + room - 1 - scored[:, None])  # negative: outside
        best = sides.argmax(1)
        for number, begin in enumerate(begins.tolist()):
            yield begin, begin + room, scored[best == number]

    def _reading(self, encoding: Encoding, begin: int, end: int, scored: Ints) -> _Reading:
        sequence = self.framing.frame(encoding.ids[begin:end])
        here = scored - begin
        places = np.arange(end - begin)
        hidden = places == here[:, None]
        if self.variant == "word_l2r":
            words = _numbered(self.tokenizer, encoding)[begin:end]
            hidden |= (words == words[here][:, None]) & (places > here[:, None])
        framed = np.zeros((len(scored), len(sequence)), dtype=bool)
        framed[:, self.framing.before : self.framing.before + end - begin] = hidden
        return _Reading(sequence, here + self.framing.before, framed)

    def _read(self, readings: Sequence[_Reading], batch: Sequence[_Copies], found: list[Floats]) -> None:
        """Read some copies, and put the log-probabilities of what is hidden where they belong."""
        parts, lengths, at, wanted, start = [], [], [], [], 0
        for one in batch:
            reading = readings[one.reading]
            places, length = reading.places[one.rows], len(reading.sequence)
            parts.append(np.where(reading.hidden[one.rows], self.mask, reading.sequence).ravel())
            lengths += [length] * len(places)
            at.append(start + length * np.arange(len(places)) + places)
            wanted.append(reading.sequence[places])
            start += length * len(places)
        device = device_of(self.model)
        make = lambda arrays: torch.from_numpy(np.concatenate(arrays)).to(device)  # noqa: E731
        positions = make([np.arange(length) for length in lengths])
        tokens = Tokens(make(parts), Fences.of(lengths, device), positions)
        states = states_of(self.model, tokens, make(at), [1] * len(lengths))
        everyone = torch.arange(len(states), device=device)
        values = self.model.target_log_probs(states, everyone, make(wanted)).double().cpu().numpy()
        for one, some in zip(batch, np.split(values, np.cumsum([len(part) for part in at])[:-1]), strict=True):
            found[one.reading][one.rows] = some


def _batches(readings: Sequence[_Reading]) -> Iterator[list[_Copies]]:
    """All copies in batches of bounded size, those of equal length together."""
    pieces: list[_Copies] = []
    lengths: list[int] = []
    for number, reading in enumerate(readings):
        most = max(BATCH_TOKENS // len(reading.sequence), 1)
        for start in range(0, len(reading.places), most):
            rows = slice(start, min(start + most, len(reading.places)))
            pieces.append(_Copies(number, rows))
            lengths.append(len(reading.sequence))
    sizes = [length * (one.rows.stop - one.rows.start) for one, length in zip(pieces, lengths, strict=True)]
    for group in by_length(lengths, sizes):
        yield [pieces[place] for place in group]


def _result(scorer: _Scorer, text: str, encoding: Encoding, values: Floats) -> PseudoScore:
    tokenizer = scorer.tokenizer
    log_probs: list[float | None] = [None if np.isnan(value) else float(value) for value in values]
    unknown = 0 if tokenizer.unk_id is None else encoding.ids.count(tokenizer.unk_id)
    words = []
    for begin, end in _runs(_numbered(tokenizer, encoding)):
        if encoding.words[begin] >= 0:
            total = sum(value for value in log_probs[begin:end] if value is not None)
            stretch = text[encoding.offsets[begin, 0] : encoding.offsets[end - 1, 1]].strip()
            words.append(WordScore(stretch, total, begin, end))
    tokens = list(spelled(tokenizer, encoding.ids))
    return PseudoScore(text, tokens, encoding.ids, log_probs, words, scorer.variant, "vocablo", unknown)


def _numbered(tokenizer: Tokenizer, encoding: Encoding) -> Ints:
    """The number of each token's word; special tokens are words of their own.

    A tokenizer that splits nothing before it looks for tokens has one word for it all: white space parts words there too.
    """
    if not encoding.ids:
        return encoding.words
    opens = np.ones(len(encoding.ids), dtype=bool)
    opens[1:] = (np.diff(encoding.words) != 0) | (encoding.words[1:] < 0) | tokenizer.word_starts(encoding.ids)[1:]
    return np.cumsum(opens)


def _runs(numbers: Ints) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal numbers."""
    if len(numbers):
        cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        yield from itertools.pairwise(cuts)
