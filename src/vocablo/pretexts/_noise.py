"""Noise: what denoising does to the tokens of one row, a pure function of the row and of a generator.

BART's five (Lewis et al. 2020, section 2.2) and T5's corruption of spans (Raffel et al. 2020, figure 2). How many tokens a
noise takes is ``share`` of the row's exactly, rounded up or down at random so that the mean is the share (T5 rounds to the
nearest, at least one); which ones is uniform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocablo.pretexts._rows import Ints

Draws = np.random.Generator


@dataclass(frozen=True, slots=True)
class Spans:
    """K spans of a row, in order: where each begins, [K], and its tokens, [K]; one of no tokens lies between two tokens."""

    begin: Ints
    length: Ints

    def replaced(self, ids: Ints, stand_in: Ints) -> Ints:
        """The row with ``stand_in`` [K] in the place of the spans, one token for each."""
        kept = np.delete(ids, self.inside)
        return np.insert(kept, self.gaps, stand_in)

    def told(self, ids: Ints, sentinels: Ints) -> Ints:
        """The tokens of every span behind its sentinel, and one sentinel more that ends them; ``sentinels`` [K + 1]."""
        at = np.append(np.cumsum(self.length) - self.length, self.length.sum())
        return np.insert(ids[self.inside], at, sentinels)

    @property
    def inside(self) -> Ints:
        """The places of all tokens of spans, in order."""
        before = np.cumsum(self.length) - self.length
        return np.arange(self.length.sum()) + np.repeat(self.begin - before, self.length)

    @property
    def gaps(self) -> Ints:
        """How many tokens outside spans stand before each span."""
        return self.begin - (np.cumsum(self.length) - self.length)


def amount(draws: Draws, count: int, share: float) -> int:
    """``share`` of ``count``, rounded at random to one of its neighbours so that the mean is exact."""
    exact = share * count
    return int(min(count, int(exact) + (draws.random() < exact - int(exact))))


def infilling(draws: Draws, count: int, share: float, mean: float) -> Spans:
    """Spans for BART's text infilling: lengths are Poisson (some 0) until they make ``share`` of the row.

    The last one is cut to fit. Empty ones come only as long as the row with a mask for each span grows no longer than it was.
    """
    total, lengths, spare = amount(draws, count, share), [], 0
    left = total
    while left:
        length = min(int(draws.poisson(mean)), left)
        if not length and spare < 1:
            continue
        spare += length - 1
        lengths.append(length)
        left -= length
    length = draws.permutation(np.array(lengths, dtype=np.int64))
    return _placed(np.sort(draws.integers(0, count - total + 1, len(length))), length)


def corruption(draws: Draws, count: int, share: float, mean: float) -> Spans:
    """Spans for T5's corruption: no two touch, none is empty, and they are ``mean`` tokens long as nearly as can be."""
    total, spans = span_counts(count, share, mean)
    cuts = np.sort(draws.choice(total - 1, spans - 1, replace=False)) + 1 if spans > 1 else np.zeros(0, dtype=np.int64)
    length = np.diff(cuts, prepend=0, append=total)
    return _placed(np.sort(draws.choice(count - total + 1, spans, replace=False)), length)


def span_counts(count: int, share: float, mean: float) -> tuple[int, int]:
    """Tokens that T5 corrupts in a row of ``count``, and in how many spans."""
    total = max(1, min(round(share * count), count - 1))
    return total, max(1, min(round(total / mean), total, count - total + 1))


def _placed(gaps: Ints, length: Ints) -> Spans:
    return Spans(gaps + np.cumsum(length) - length, length.astype(np.int64))


def masking(draws: Draws, ids: Ints, free: NDArray[np.bool_], share: float, mask: int) -> Ints:
    """The row with ``mask`` in the place of some tokens; those that aren't ``free`` stay, and don't count."""
    noised = ids.copy()
    noised[_chosen(draws, free, share)] = mask
    return noised


def deletion(draws: Draws, ids: Ints, free: NDArray[np.bool_], share: float) -> Ints:
    """The row without some tokens; those that aren't ``free`` stay, and don't count."""
    return np.delete(ids, _chosen(draws, free, share))


def _chosen(draws: Draws, free: NDArray[np.bool_], share: float) -> Ints:
    places = np.flatnonzero(free)
    return np.sort(draws.choice(places, amount(draws, len(places), share), replace=False))


def permutation(draws: Draws, ids: Ints, starts: Ints) -> Ints:
    """The row with its sentences, which begin at ``starts`` [S] (the first at 0), in another order."""
    sentences = np.split(ids, starts[1:])
    return np.concatenate([sentences[number] for number in draws.permutation(len(sentences))])


def rotation(draws: Draws, ids: Ints) -> Ints:
    """The row turned so that it begins at a token chosen at random."""
    return np.roll(ids, -int(draws.integers(len(ids))))
