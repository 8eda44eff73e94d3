"""Words in context: the vector of a word is the mean of its tokens' states, and its neighbours are the words nearest to it.

So "banco" has one vector where money is drawn from it and another where one sits on it. A word is a run of letters and
digits. Nearness is the cosine of the angle between two vectors.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import Progress
from vocablo.contract import BothModel
from vocablo.data.order import by_length
from vocablo.inference.embed import Vectors, chosen_layers, states_at
from vocablo.inference.framing import Framing, flat_frames
from vocablo.inference.reading import asking, device_of
from vocablo.inference.score import grouped
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import word_like

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A word at ``sentence[begin:end]`` and the cosine of its vector with that of the word asked about."""

    word: str
    sentence: str
    begin: int
    end: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The words nearest to ``word``, at ``sentence[begin:end]``; ``searched`` words were compared."""

    word: str
    sentence: str
    begin: int
    end: int
    layers: tuple[int, ...]
    neighbors: tuple[Neighbor, ...]
    searched: int


class WordReader:
    """Vectors of words in context, at the given layers (joined)."""

    def __init__(self, model: BothModel, tokenizer: Tokenizer, layers: Sequence[int] = (-1,)) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.framing, self.layers = Framing(model, tokenizer), chosen_layers(model, layers)

    def one(self, sentence: str, word: str, occurrence: int | None = None) -> tuple[Span, Vectors]:
        """Where a word stands in a sentence, and its vector [W]; ``occurrence`` counts from 1 where it stands several times."""
        (spans,), vectors = self.every([sentence])
        at = [place for place, (begin, end) in enumerate(spans) if sentence[begin:end] == word]
        at = at or [place for place, (b, e) in enumerate(spans) if sentence[b:e].casefold() == word.casefold()]
        if not at:
            known = ", ".join(sentence[begin:end] for begin, end in spans)
            raise DataError(f"The word {word!r} isn't in {sentence!r}, whose words are: {known}.")
        if len(at) > 1 and occurrence is None:
            raise DataError(
                f"{word!r} stands {len(at)} times in {sentence!r}: say which with --occurrence 1 (or 2, ...)."
            )
        if not 1 <= (occurrence or 1) <= len(at):
            raise DataError(f"{word!r} stands {len(at)} times in {sentence!r}, so there is no occurrence {occurrence}.")
        place = at[(occurrence or 1) - 1]
        return spans[place], vectors[place]

    def every(self, sentences: Sequence[str]) -> tuple[list[list[Span]], Vectors]:
        """The places of all words of each sentence, and the vectors [words, W] of all sentences, one behind the other."""
        spans, members, sequences = [], [], []
        for sentence in sentences:
            encoding = self.tokenizer.encode(sentence)
            self.framing.require(encoding.ids, sentence)
            here, tokens = _covered(_words(sentence), encoding.offsets)
            spans.append(here)
            members.append([token + self.framing.before for token in tokens])
            sequences.append(self.framing.frame(encoding.ids))
        found: list[Vectors] = [np.zeros((0, 0), dtype=np.float32)] * len(sentences)
        with asking(self.model):
            for group in by_length([len(sequence) for sequence in sequences]):
                self._read(group, sequences, members, found)
        kept = [vectors for vectors in found if len(vectors)]
        return spans, np.concatenate(kept) if kept else np.zeros((0, 0), dtype=np.float32)

    def _read(
        self, group: Sequence[int], sequences: Sequence[NDArray[np.int64]], members: Sequence[list[NDArray[np.int64]]],
        found: list[Vectors],
    ) -> None:  # fmt: skip
        device = device_of(self.model)
        layers = states_at(self.model, flat_frames([sequences[one] for one in group], device), self.layers)
        starts = np.cumsum([0, *(len(sequences[one]) for one in group)])
        tokens = [start + token for start, one in zip(starts, group, strict=False) for token in members[one]]
        if not tokens:
            return
        sizes = torch.tensor([len(one) for one in tokens], device=device)
        at = torch.from_numpy(np.concatenate(tokens)).to(device)
        owner = torch.repeat_interleave(torch.arange(len(tokens), device=device), sizes)
        states = torch.cat([layer.index_select(0, at).float() for layer in layers], 1)
        means = torch.zeros(len(tokens), states.shape[1], device=device).index_add_(0, owner, states) / sizes[:, None]
        cuts = np.cumsum([len(members[one]) for one in group])[:-1]
        for one, part in zip(group, np.split(means.cpu().numpy(), cuts), strict=True):
            found[one] = part


def neighbors(
    reader: WordReader,
    sentence: str,
    word: str,
    sentences: Iterable[str],
    k: int = 10,
    *,
    occurrence: int | None = None,
    same: bool = False,
    quiet: bool = True,
) -> Neighbors:
    """The k words of ``sentences`` nearest to a word of ``sentence``; that place itself isn't one of them.

    ``same``: only occurrences of the same word (upper or lower case), to tell its senses apart. Raises DataError for a word
    that isn't there or stands several times, and for a sentence over the model's context.
    """
    if k < 1:
        raise ConfigError(f"k is at least 1; got {k}.")
    span, vector = reader.one(sentence, word, occurrence)
    best: list[tuple[float, int, Neighbor]] = []
    searched = 0
    with Progress("searching", None, "words", quiet=quiet) as progress:
        for some in grouped(sentences):
            spans, vectors = reader.every(some)
            cosines = cosine(vectors, vector) if len(vectors) else np.zeros(0)
            places = [(text, begin, end) for text, here in zip(some, spans, strict=True) for begin, end in here]
            allowed = [
                place
                for place, (text, begin, end) in enumerate(places)
                if (text, begin) != (sentence, span[0]) and (not same or text[begin:end].casefold() == word.casefold())
            ]
            for place in sorted(allowed, key=lambda one: -cosines[one])[:k]:
                text, begin, end = places[place]
                found = Neighbor(text[begin:end], text, begin, end, float(cosines[place]))
                heapq.heappush(best, (found.cosine, -searched - place, found))
                if len(best) > k:
                    heapq.heappop(best)
            searched += len(allowed)
            progress.advance(len(places))
    ranked = tuple(found for _, _, found in sorted(best, reverse=True))
    return Neighbors(sentence[span[0] : span[1]], sentence, *span, reader.layers, ranked, searched)


def cosine(rows: Vectors, vector: Vectors) -> NDArray[np.float64]:
    """The cosine [B] of each of the rows [B, W] with a vector [W]; 0 for a vector of length 0."""
    wide, one = rows.astype(np.float64), vector.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(one)
    return np.divide(wide @ one, lengths, out=np.zeros(len(wide)), where=lengths > 0)


def _words(text: str) -> list[Span]:
    """Where the runs of letters and digits begin and end."""
    spans: list[Span] = []
    begin = None
    for place, character in enumerate(text + " "):
        if word_like(character):
            begin = place if begin is None else begin
        elif begin is not None:
            spans.append((begin, place))
            begin = None
    return spans


def _covered(spans: Sequence[Span], offsets: NDArray[np.int64]) -> tuple[list[Span], list[NDArray[np.int64]]]:
    """The words that have tokens, and the tokens of each: those that share a character with it."""
    kept, tokens = [], []
    for begin, end in spans:
        inside = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < end))
        if len(inside):
            kept.append((begin, end))
            tokens.append(inside)
    return kept, tokens
