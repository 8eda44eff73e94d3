"""Named random streams: every draw is a pure function of a seed and of what it is for.

No stream depends on how many numbers another one has drawn, so a resumed run, or one with more ranks, draws the same
numbers at the same step.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(seed: int, *parts: int | str) -> int:
    """A 63-bit seed for the stream named by ``parts``, e.g. ``seed_for(0, "dropout", step, micro, rank)``."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A numpy generator for the stream named by ``parts``."""
    return np.random.Generator(np.random.Philox(seed_for(seed, *parts)))
