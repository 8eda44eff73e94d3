"""Examples as a model reads them: sequences of ids, flat, and which of them belong to one example."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.contract import Fences, Tokens

Ints = NDArray[np.int64]


def within(lengths: Ints) -> Ints:
    """The place of each token in its own sequence, for sequences of these lengths."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class Encoded:
    """Examples of a task, encoded.

    ``ids`` and ``segments`` [N] are those of all sequences joined, ``starts`` [R + 1] where each begins, and ``examples``
    [E + 1] which of the sequences are the first of an example. ``values`` are what is to be told of each example, as its
    task has them (None: not known), and ``cut`` [E] says of which tokens were left out.
    """

    ids: NDArray[np.int32]
    segments: NDArray[np.uint8]
    starts: Ints
    examples: Ints
    cut: NDArray[np.bool_]
    values: Any = None

    @classmethod
    def of(
        cls,
        sequences: Iterable[tuple[Sequence[int], Sequence[int]]],
        *,
        cut: Sequence[bool],
        sizes: Sequence[int] | None = None,
        values: Any = None,
    ) -> Encoded:
        """From (ids, segments) of each sequence; ``sizes`` are how many make each example (None: one)."""
        ids: list[int] = []
        segments: list[int] = []
        lengths: list[int] = []
        for one, kinds in sequences:
            ids += one
            segments += kinds
            lengths.append(len(one))
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        each = np.ones(len(lengths), dtype=np.int64) if sizes is None else np.array(sizes, dtype=np.int64)
        return cls(
            np.array(ids, dtype=np.int32),
            np.array(segments, dtype=np.uint8),
            ends,
            np.concatenate([[0], np.cumsum(each)]),
            np.array(cut, dtype=bool),
            values,
        )

    def __len__(self) -> int:
        """E."""
        return len(self.examples) - 1

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each sequence, [R]."""
        return np.diff(self.starts)

    @cached_property
    def sizes(self) -> Ints:
        """Tokens of each example, [E]."""
        return np.diff(self.starts[self.examples])

    @property
    def total(self) -> int:
        """All tokens that are read in an epoch."""
        return len(self.ids)

    def rows(self, which: Ints) -> tuple[Ints, Ints]:
        """The sequences of some examples, in their order, and how many each has."""
        counts = np.diff(self.examples)[which]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.examples[which], counts) + within, counts

    def tokens(self, rows: Ints) -> Tokens:
        """Some sequences as a model reads them."""
        lengths = self.lengths[rows]
        positions = within(lengths)
        at = np.repeat(self.starts[rows], lengths) + positions
        segments = self.segments[at]
        return Tokens(
            torch.from_numpy(self.ids[at].astype(np.int64)),
            Fences.of(lengths.tolist()),
            torch.from_numpy(positions),
            torch.from_numpy(segments.astype(np.int64)) if segments.any() else None,
        )

    @cached_property
    def crc32(self) -> int:
        """A checksum of what the model reads."""
        value = 0
        for array in (self.ids, self.segments, self.starts, self.examples):
            value = zlib.crc32(np.ascontiguousarray(array).tobytes(), value)
        return value
