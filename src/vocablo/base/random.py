"""Named random streams: every draw is a pure function of a seed and of what it is for.

No stream depends on how many numbers another one has drawn, so a resumed run, or one with more ranks, draws the same
numbers at the same step.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def seed_for(seed: int, *parts: int | str) -> int:
    """A 63-bit seed for the stream named by ``parts``, e.g. ``seed_for(0, "dropout", step, micro, rank)``."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A numpy generator for the stream named by ``parts``."""
    return np.random.Generator(np.random.Philox(seed_for(seed, *parts)))


def uniforms(start: int, count: int, seed: int, *parts: int | str) -> NDArray[np.float64]:
    """Numbers ``start`` to ``start + count`` of the stream's numbers in [0, 1), [count]: any piece of it is had alone.

    So the numbers that belong to one row of a batch are the same whoever works on the rows before it.
    """
    bits = np.random.Philox(seed_for(seed, *parts))
    bits.advance(start // 4)  # it makes four numbers at a time
    return np.random.Generator(bits).random(start % 4 + count)[start % 4 :]
