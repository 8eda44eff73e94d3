"""Sentences that a store has more than once: text from the web repeats itself, and a model learns that by heart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vocablo.data.workers import SENTENCE

LEAST = 8  # tokens: shorter sentences ("Sí, señor.") come again in any text
MOST = 1 << 24  # tokens looked at, the first ones
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers don't vanish modulo 2^64


class Marked(Protocol):
    """What is read of a token store."""

    tokens: NDArray[Any]
    marks: NDArray[np.uint8]
    documents: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Repeated:
    """``share``: of the tokens, those in sentences of ``LEAST`` tokens or more that came before, word for word.

    ``most`` is the sentence that comes most often, as ids, and ``times`` how often; empty and 0 where none comes again.
    """

    share: float
    most: list[int]
    times: int


def repeated(store: Marked) -> Repeated:
    """Look for repeated sentences, by a hash of 64 bits, in the store's first ``MOST`` tokens."""
    tokens = np.asarray(store.tokens[:MOST], dtype=np.uint64) + np.uint64(1)
    ends = store.documents[1:][store.documents[1:] <= len(tokens)] - 1
    tokens[ends] = 0  # a boundary belongs to no sentence
    starts = np.union1d(np.flatnonzero(store.marks[:MOST] & SENTENCE), store.documents[:-1])
    starts = starts[starts < len(tokens)].astype(np.int64)
    if not len(starts):
        return Repeated(0.0, [], 0)
    lengths = np.diff(np.append(starts, len(tokens)))
    places = np.arange(starts[0], len(tokens)) - np.repeat(starts, lengths)
    powers = np.cumprod(np.full(lengths.max(), _FACTOR, dtype=np.uint64), dtype=np.uint64)
    hashes = np.add.reduceat(tokens[starts[0] :] * powers[places], starts - starts[0])
    sizes = np.add.reduceat((tokens[starts[0] :] > 0).astype(np.int64), starts - starts[0])
    long = np.flatnonzero(sizes >= LEAST)
    if not len(long):
        return Repeated(0.0, [], 0)
    _, first, counts = np.unique(hashes[long], return_index=True, return_counts=True)
    again = ((counts - 1) * sizes[long[first]]).sum()
    most = int(counts.argmax())
    if counts[most] == 1:
        return Repeated(0.0, [], 0)
    begin = starts[long[first[most]]]
    ids = store.tokens[begin : begin + sizes[long[first[most]]]]
    return Repeated(float(again) / len(tokens), [int(index) for index in ids], int(counts[most]))
