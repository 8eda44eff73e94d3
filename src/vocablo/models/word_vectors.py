"""Word vectors: skip-gram and CBOW with negative sampling (Mikolov et al. 2013), one vector for each word of a vocabulary.

The equations, and both ways of computing them, are in ``nn/word_vectors.py``. A word has one vector, whatever stands around
it (compare ELMo and BERT). The family is fitted in its own way, in ``epochs`` passes over a token store whose tokens are
words, with a learning rate that falls linearly from ``lr`` to ``min_lr``. Unknown words are left out before windows are
cut, as the authors' program does with rare ones; special tokens have no use for a vector and keep the one they began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import Progress
from vocablo.base.random import seed_for
from vocablo.nn import native
from vocablo.nn.word_vectors import Draws, Windows, compiled, learn

FAMILIES = {"word-vectors": "skip-gram or CBOW with negative sampling (Mikolov et al. 2013)"}
SIZES = {"tiny": 50, "mini": 100, "small": 200, "medium": 300, "base": 400, "large": 500}
COUNTED = True
PART = 1 << 17  # tokens that a thread reads at once, at most
LEAST = 1 << 12


class Config(Settings):
    """All that defines the vectors. ``kind`` and what follows it say how they are trained; see ``nn/word_vectors.py``.

    ``boundary`` and ``unknown`` are ids that stand for no word; None where there is none.
    """

    vocab: int = Field(ge=1)
    width: int = Field(default=100, ge=1)
    kind: Literal["skip-gram", "cbow"] | None = "skip-gram"  # None: not trained here
    window: int = Field(default=5, ge=1)
    negatives: int = Field(default=5, ge=1)
    sample: float = Field(default=1e-3, ge=0)
    power: float = Field(default=0.75, ge=0)
    epochs: int = Field(default=5, ge=1)
    lr: float = Field(default=0.025, gt=0)
    min_lr: float = Field(default=1e-4, ge=0)
    boundary: int | None = None
    unknown: int | None = None


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration at a size, which is the width; ``changes`` win. ``context`` doesn't matter here."""
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    layers = [("size", {"vocab": vocab, "width": SIZES[size]}), ("model", changes)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "word-vectors"


def build(config: Config) -> WordVectors:
    """Vectors from U(-1/2D, 1/2D), to be fitted or filled by ``load_state_dict``."""
    return WordVectors(config)


class WordVectors(nn.Module):
    """The vectors [V, D] of a vocabulary's tokens, by id."""

    reads = "words"
    carries = False
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.vocab = config, config.vocab
        self.vectors = nn.Parameter(torch.empty(config.vocab, config.width), requires_grad=False)
        nn.init.uniform_(self.vectors, -0.5 / config.width, 0.5 / config.width)

    def fit(self, store: Any, progress: Progress | None = None) -> None:
        """Train on a token store. Its seed comes from torch's generator. Raises DataError for a text without words."""
        tokens, config = store.tokens, self.config
        if len(tokens) and int(tokens.max()) >= self.vocab:
            raise DataError(f"The text has token id {int(tokens.max())} and the model a vocabulary of {self.vocab}.")
        counts = np.bincount(tokens, minlength=self.vocab)
        counts[[one for one in (config.boundary, config.unknown) if one is not None]] = 0
        if np.count_nonzero(counts) < 2:
            raise DataError(
                "There are fewer than two words to learn: give more text, or a smaller tokenizer.min_count."
            )
        draws = Draws.of(counts, config.sample, config.power)
        boundary = -1 if config.boundary is None else config.boundary
        how = Windows(config.window, config.negatives, config.kind == "cbow", boundary)
        told = torch.zeros_like(self.vectors)
        seed = int(torch.empty((), dtype=torch.int64).random_())
        workers = native.threads() if compiled() is not None else 1
        size = min(PART, max(LEAST, -(-len(tokens) // (8 * workers))))
        total = config.epochs * len(tokens)

        def read(part: tuple[int, int]) -> tuple[int, float, int]:
            epoch, begin = part
            some = np.asarray(tokens[begin : begin + size]).astype(np.int32)
            done = epoch * len(tokens) + begin
            rates = [config.lr + (config.min_lr - config.lr) * at / total for at in (done, done + len(some))]
            drawn = seed_for(seed, epoch, begin)
            loss, told_from = learn(self.vectors.data, told, draws, how, some, (rates[0], rates[1]), drawn)
            return len(some), loss, told_from

        parts = [(epoch, begin) for epoch in range(config.epochs) for begin in range(0, len(tokens), size)]
        with ThreadPoolExecutor(workers) as pool:
            try:
                for read_now, loss, pairs in pool.map(read, parts):
                    if progress is not None:
                        progress.advance(read_now / config.epochs, f"loss {loss / max(pairs, 1):.4f} a pair")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def flops_per_token(self, context: int) -> int:
        """Of one pass: every word is told from others once (CBOW) or once for each word around it, 6 for each number."""
        times = 1 if self.config.kind == "cbow" else self.config.window + 1
        return 6 * times * (1 + self.config.negatives) * self.config.width
