"""Negative sampling: vectors of words learned by telling the words around them from words drawn at random (Mikolov et al. 2013).

    skip-gram    log sigmoid(v_j . u_i) + sum_k log sigmoid(-v_j . u_k)      for every word j around the word i
    CBOW         the same with the mean of all v_j around i, once for each i

    P(keep w) = sqrt(t / f) + t / f        frequent words are dropped before windows are cut, f the share of w in the text
    P(draw w) ~ count(w)^(3/4)             the K negatives, which are skipped where they are the word itself
    reach ~ uniform on 1..window           of each word to either side, so that near words count for more

v are the vectors that are kept, u those of the words as they are told. One sentence ends where the boundary stands. CBOW adds
the whole gradient of the mean to each of its vectors, as the authors' program does.

``word_vectors.cpp`` makes each update at once, on as many threads as torch has; the way without a compiler, which is the one
to read, makes those of some pairs together. One thread gives the same numbers every time, several don't quite.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vocablo.nn import native

SOURCE = Path(__file__).with_name("word_vectors.cpp")
BATCH = 256  # pairs whose updates are made together by torch, at most: of few words, few, or their updates add up

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Windows:
    """How the text is read. ``boundary``: the token that ends a sentence, -1 for none."""

    window: int
    negatives: int
    cbow: bool
    boundary: int


@dataclass(frozen=True, slots=True)
class Draws:
    """Which words are kept, and the alias table that negatives are drawn from (Walker 1977): [V] each.

    A place is drawn uniformly; it is the word with probability ``chance``, else its ``other``.
    """

    keep: Floats
    chance: Floats
    other: Ints

    @classmethod
    def of(cls, counts: NDArray[np.int64], sample: float, power: float) -> Draws:
        """From the counts [V] of the words; those of 0 are neither trained nor drawn. ``sample`` is t, 0 keeps all."""
        share = counts / max(int(counts.sum()), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            keep = np.where(counts > 0, np.sqrt(sample / share) + sample / share if sample else 1.0, 0.0)
        weights = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
        return cls(np.minimum(keep, 1).astype(np.float32), *alias_table(weights))


def alias_table(weights: NDArray[np.float64]) -> tuple[Floats, Ints]:
    """``chance`` and ``other`` of ``Draws`` for weights [V] that aren't all zero."""
    scaled = (weights * (len(weights) / weights.sum())).tolist()
    other = list(range(len(scaled)))
    small = [word for word, value in enumerate(scaled) if value < 1]
    large = [word for word, value in enumerate(scaled) if value >= 1]
    while small and large:
        less, more = small.pop(), large[-1]
        other[less] = more
        scaled[more] -= 1 - scaled[less]
        if scaled[more] < 1:
            small.append(large.pop())
    for word in (*small, *large):  # what is left is 1 but for rounding
        scaled[word] = 1.0
    return np.array(scaled, dtype=np.float32), np.array(other, dtype=np.int32)


class _Vectors(ctypes.Structure):
    """``Vectors`` of word_vectors.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("in", "out", "keep", "chance", "other")),
        *((name, ctypes.c_int32) for name in ("vocab", "width", "window", "negatives", "cbow", "boundary")),
    ]


def compiled() -> ctypes.CDLL | None:
    """The compiled way, or None where it can't be had or isn't wanted (``VOCABLO_NATIVE=0``)."""
    return None if os.environ.get("VOCABLO_NATIVE", "1") == "0" else _library()


@functools.cache
def _library() -> ctypes.CDLL | None:
    loaded = native.built(SOURCE, "word vectors are trained by torch, which is slower")
    if loaded is not None:
        pointer, int64, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        loaded.vocablo_word_vectors.argtypes = [pointer, pointer, int64, real, real, ctypes.c_uint64, pointer]
        loaded.vocablo_word_vectors.restype = ctypes.c_double
    return loaded


def learn(
    vectors: Float[Tensor, "V D"],
    told: Float[Tensor, "V D"],
    draws: Draws,
    how: Windows,
    tokens: Ints,
    rates: tuple[float, float],
    seed: int,
) -> tuple[float, int]:
    """Train v and u in place on a part of the text; ``rates`` are the learning rates at its start and end.

    Returns the summed loss in nats, and how many words were told from others. Several threads may call this at once.
    """
    library = compiled()
    if library is None:
        return learn_by_torch(vectors, told, draws, how, tokens, rates, seed)
    tokens = np.ascontiguousarray(tokens, dtype=np.int32)
    places = [vectors.data_ptr(), told.data_ptr()]
    places += [array.ctypes.data for array in (draws.keep, draws.chance, draws.other)]
    record = _Vectors(*places, *vectors.shape, how.window, how.negatives, how.cbow, how.boundary)
    pairs = ctypes.c_int64()
    loss = library.vocablo_word_vectors(
        ctypes.byref(record), tokens.ctypes.data, len(tokens), *rates, seed, ctypes.byref(pairs)
    )
    return float(loss), pairs.value


def learn_by_torch(
    vectors: Float[Tensor, "V D"],
    told: Float[Tensor, "V D"],
    draws: Draws,
    how: Windows,
    tokens: Ints,
    rates: tuple[float, float],
    seed: int,
) -> tuple[float, int]:
    """The same, written to be read."""
    rng = np.random.default_rng(seed)
    words, at, around = pairs(tokens, draws.keep, how, rng)
    if how.cbow:  # one row for each word with something around it, of as many vectors as stand there
        at, rows = np.unique(at, return_inverse=True)
    else:  # one row for each pair
        rows = np.arange(len(at))
    size = min(BATCH, max(4, len(draws.keep) // 8))
    bounds = np.searchsorted(rows, np.arange(0, len(at) + size, size))
    loss = 0.0
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        rate = rates[0] + (rates[1] - rates[0]) * number * size / max(len(at), 1)
        here = slice(number * size, (number + 1) * size)
        true = torch.from_numpy(words[at[here]])
        inputs = torch.from_numpy(words[around[begin:end]])
        row = torch.from_numpy(rows[begin:end] - number * size)
        places = rng.integers(len(draws.keep), size=(len(true), how.negatives))
        drawn = np.where(rng.random(places.shape) < draws.chance[places], places, draws.other[places])
        targets = torch.cat([true[:, None], torch.from_numpy(drawn.astype(np.int64))], 1)  # [P, 1 + K]

        sizes = torch.bincount(row, minlength=len(true)).float()[:, None]
        h = torch.zeros(len(true), vectors.shape[1]).index_add_(0, row, vectors[inputs]) / sizes
        u = told[targets]
        signs = torch.ones(targets.shape)
        signs[:, 1:] = -1
        signs[:, 1:][targets[:, 1:] == true[:, None]] = 0
        scores = signs * torch.einsum("pd,pkd->pk", h, u)
        loss -= float((torch.nn.functional.logsigmoid(scores) * signs.abs()).sum())
        g = rate * signs * torch.sigmoid(-scores)
        vectors.index_add_(0, inputs, torch.einsum("pk,pkd->pd", g, u)[row])
        told.index_add_(0, targets.flatten(), (g[:, :, None] * h[:, None]).flatten(0, 1))
    return loss, len(at)


def pairs(
    tokens: Ints, keep: Floats, how: Windows, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The words that are kept [n], and for every pair the places in them of a word and of one around it, in the text's order."""
    boundary = tokens == how.boundary
    kept = ~boundary & (rng.random(len(tokens)) < keep[tokens])
    words, sentence = tokens[kept].astype(np.int64), np.cumsum(boundary)[kept]
    reach = rng.integers(1, how.window + 1, size=len(words))
    places = np.arange(len(words))
    found = []
    for distance in range(1, how.window + 1):
        for other in (places - distance, places + distance):
            inside = (other >= 0) & (other < len(words)) & (reach >= distance)
            inside[inside] &= sentence[places[inside]] == sentence[other[inside]]
            found.append(np.stack([places[inside], other[inside]]))
    at, around = np.concatenate(found, axis=1)
    order = np.lexsort([around, at])
    return words, at[order], around[order]
