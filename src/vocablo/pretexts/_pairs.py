"""Pairs of neighbouring passages, drawn as BERT's authors drew theirs (Devlin et al. 2019, appendix A.2).

A document is read from its first sentence to its last. Sentences are gathered until they have as many tokens as a
sequence has room for (or, for some pairs, a smaller number drawn at random), and cut in two at a sentence's border: the
first part is A. B is the second part, or, every second time, a passage of another document that begins at a random
sentence; then the reading goes on behind A, so that what B would have been isn't lost. A pair that is too long loses
tokens of its longer part, at its front or its end at random.

All documents are read in lockstep, one pair of each at a time, so that numpy does the work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vocablo.pretexts._rows import Ints, Sentences


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs, in the order in which they were read: where A and B begin, their lengths, and whether they belong apart."""

    a: Ints
    a_size: Ints
    b: Ints
    b_size: Ints
    label: Ints  # 0: B follows A; 1: it doesn't (or, of pairs in order, the two are swapped)

    def __len__(self) -> int:
        return len(self.a)

    def take(self, at: Ints | slice) -> Pairs:
        """Some of the pairs, in that order."""
        return Pairs(self.a[at], self.a_size[at], self.b[at], self.b_size[at], self.label[at])


def next_sentence(sentences: Sentences, rng: np.random.Generator, room: int, short: float) -> Pairs:
    """Pairs whose B follows A or is of another document, ``room`` tokens at most; a share ``short`` is cut shorter.

    A lone sentence, which can't be cut in two, always gets a B of another document. There must be two documents.
    """
    first, end, starts, stops = sentences.first, sentences.end, sentences.starts, sentences.stops
    cursor, live = first.copy(), np.arange(len(first))
    found: list[Pairs] = []
    while len(live):
        here, target = cursor[live], _targets(rng, len(live), room, short)
        stop = np.minimum(np.searchsorted(stops, starts[here] + target) + 1, end[live])
        count = stop - here
        cut = here + 1 + (rng.random(len(live)) * (count - 1)).astype(np.int64)
        label = (count == 1) | (rng.random(len(live)) < 0.5)
        size = stops[cut - 1] - starts[here]
        other = rng.integers(0, len(first) - 1, len(live))
        other += other >= live
        pick = first[other] + (rng.random(len(live)) * (end[other] - first[other])).astype(np.int64)
        enough = np.searchsorted(stops, starts[pick] + np.maximum(target - size, 1)) + 1
        b = np.where(label, pick, np.minimum(cut, stop - 1))
        b_stop = np.where(label, np.minimum(enough, end[other]), stop)
        found.append(Pairs(starts[here], size, starts[b], stops[b_stop - 1] - starts[b], label.astype(np.int64)))
        cursor[live] = np.where(label, cut, stop)
        live = live[cursor[live] < end[live]]
    return _truncated(_joined(found), rng, room)


def sentence_order(sentences: Sentences, rng: np.random.Generator, room: int, short: float) -> Pairs:
    """Pairs of two passages that follow one another, every second one swapped (Lan et al. 2020, section 3.1).

    Documents of one sentence have none. A sentence left alone at a document's end is read again with the one before it.
    """
    first, end, starts, stops = sentences.first, sentences.end, sentences.starts, sentences.stops
    cursor, live = first.copy(), np.flatnonzero(end - first > 1)
    found: list[Pairs] = []
    while len(live):
        here = np.minimum(cursor[live], end[live] - 2)
        enough = np.searchsorted(stops, starts[here] + _targets(rng, len(live), room, short)) + 1
        stop = np.clip(enough, here + 2, end[live])
        cut = here + 1 + (rng.random(len(live)) * (stop - here - 1)).astype(np.int64)
        label = rng.random(len(live)) < 0.5
        one, two = np.where(label, cut, here), np.where(label, here, cut)
        one_stop, two_stop = np.where(label, stop, cut), np.where(label, cut, stop)
        sizes = [stops[last - 1] - starts[begin] for begin, last in ((one, one_stop), (two, two_stop))]
        found.append(Pairs(starts[one], sizes[0], starts[two], sizes[1], label.astype(np.int64)))
        cursor[live] = stop
        live = live[stop < end[live]]
    return _truncated(_joined(found), rng, room)


def _targets(rng: np.random.Generator, count: int, room: int, short: float) -> Ints:
    """How many tokens each pair is to have."""
    return np.where(rng.random(count) < short, rng.integers(2, room + 1, count), room)


def _truncated(pairs: Pairs, rng: np.random.Generator, room: int) -> Pairs:
    """Pairs of at most ``room`` tokens: the longer part loses a token at a time, at either end.

    That ends with both halves of the room full when both are longer than that, else with the shorter part whole.
    """
    a_size = np.minimum(pairs.a_size, np.maximum(room - pairs.b_size, (room + 1) // 2))
    b_size = np.minimum(pairs.b_size, room - a_size)
    a_front = rng.binomial(pairs.a_size - a_size, 0.5)
    b_front = rng.binomial(pairs.b_size - b_size, 0.5)
    return Pairs(pairs.a + a_front, a_size, pairs.b + b_front, b_size, pairs.label)


def _joined(parts: list[Pairs]) -> Pairs:
    join = lambda name: np.concatenate([np.zeros(0, dtype=np.int64), *(getattr(part, name) for part in parts)])  # noqa: E731
    return Pairs(join("a"), join("a_size"), join("b"), join("b_size"), join("label"))
