"""How well the vectors of a word in its sentences tell its senses apart: "banco" of money from "banco" to sit on.

    nearest   the share of uses whose nearest other use of the word, by cosine, has their sense
    pairs     the probability that two uses of one sense are nearer to each other than two of different senses (AUC)

Where several are equally near, each counts its share; so a vector that is the same in every sentence has 0.5 of pairs, and of
the nearest what chance gives: with five sentences of each of two senses, 4 of 9. Each layer is measured on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import Progress
from vocablo.data.senses import Use, read_senses
from vocablo.inference.encoder import EncoderModel
from vocablo.inference.neighbors import WordReader
from vocablo.inference.two_way import TwoWayLanguageModel
from vocablo.inference.words import WordModel

TIE = 1e-6  # cosines of one vector with itself differ by rounding


@dataclass(frozen=True, slots=True)
class LayerSenses:
    """What one layer tells, over all words: means of the words' own figures."""

    layer: int
    nearest: float
    pairs: float


@dataclass(frozen=True, slots=True)
class WordSenses:
    """What the last layer tells of one word."""

    word: str
    senses: tuple[str, ...]
    uses: int
    nearest: float
    pairs: float


@dataclass(frozen=True, slots=True)
class SensesReport:
    """What was measured; ``chance`` is what ``nearest`` would be by chance, ``unknown`` are words without a vector."""

    layers: tuple[LayerSenses, ...]
    words: tuple[WordSenses, ...]
    uses: int
    chance: float
    unknown: tuple[str, ...]


def evaluate(asked: object, data: str | Path | None = None, *, quiet: bool = True) -> SensesReport:
    """Measure a model on our set, or a table of one's own (``data/senses.py``).

    Raises ConfigError for a model that has no vectors of words, DataError when none of the words has one.
    """
    if not isinstance(asked, (EncoderModel, TwoWayLanguageModel, WordModel)):
        raise ConfigError("senses are asked of vectors of words in sentences: of an encoder, an ELMo, or word vectors.")
    sets = read_senses(data)
    known = {
        word: uses for word, uses in sets.items() if not isinstance(asked, WordModel) or asked.id(word) is not None
    }
    if not known:
        raise DataError("None of the words has a vector: are these vectors of that language?")
    depth = 0 if isinstance(asked, WordModel) else asked.model.config.stack.layers
    figures: dict[str, list[tuple[float, float]]] = {}
    with Progress("measuring", len(known), "words", quiet=quiet) as progress:
        for word, uses in known.items():
            layers = _vectors(asked, uses, depth)
            senses = [use.sense for use in uses]
            figures[word] = [separation(vectors, senses) for vectors in layers]
            progress.advance(1, word)
    return _report(known, figures, tuple(word for word in sets if word not in known))


def _vectors(asked: object, uses: Sequence[Use], depth: int) -> list[NDArray[np.float32]]:
    """The vectors [uses, W] of a word in its sentences, layer by layer."""
    if isinstance(asked, WordModel):
        return [np.stack([asked.embed(use.word).vectors[0] for use in uses])]
    assert isinstance(asked, (EncoderModel, TwoWayLanguageModel))
    found = []
    for layer in range(depth + 1):
        reader = WordReader(asked.model, asked.tokenizer, (layer,))
        found.append(np.stack([reader.one(use.sentence, use.word)[1] for use in uses]))
    return found


def separation(vectors: NDArray[np.float32], senses: Sequence[str]) -> tuple[float, float]:
    """``nearest`` and ``pairs`` of the uses of one word; see the module's docstring."""
    wide = vectors.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    same = np.array([[one == other for other in senses] for one in senses])
    others = ~np.eye(len(senses), dtype=bool)
    shares = []
    for row in range(len(senses)):
        near = others[row] & (cosines[row] >= cosines[row][others[row]].max() - TIE)
        shares.append(same[row][near].mean())
    upper = np.triu(others)
    alike, apart = cosines[upper & same][:, None], cosines[upper & ~same][None, :]
    wins = (alike > apart + TIE) + 0.5 * (np.abs(alike - apart) <= TIE)
    return float(np.mean(shares)), float(wins.mean())


def _report(
    sets: Mapping[str, Sequence[Use]], figures: Mapping[str, Sequence[tuple[float, float]]], unknown: tuple[str, ...]
) -> SensesReport:
    table = np.array([figures[word] for word in sets])  # [words, layers, 2]
    layers = tuple(LayerSenses(layer, *map(float, row)) for layer, row in enumerate(table.mean(0)))
    words = tuple(
        WordSenses(word, tuple(dict.fromkeys(use.sense for use in uses)), len(uses), *figures[word][-1])
        for word, uses in sets.items()
    )
    chances = [
        np.mean([(sum(use.sense == one.sense for use in uses) - 1) / (len(uses) - 1) for one in uses])
        for uses in sets.values()
    ]
    return SensesReport(layers, words, sum(map(len, sets.values())), float(np.mean(chances)), unknown)
