"""fastText's binary models, versions 11 and 12: a vector for each word, the mean of its own and of its letters' n-grams.

    magic, version; 12 int32 settings and a double; the dictionary (sizes, then word \\0 count type); the input matrix

A word's n-grams are those of <word>, from minn to maxn letters, each in the row that its hash (FNV-1a, 32 bits, of bytes taken
as signed) has among ``bucket`` rows. Quantized models, which are trained to be small classifiers, aren't read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import CheckpointError

MAGIC = struct.pack("<i", 793712314)
VERSIONS = (11, 12)
SETTINGS = (
    "dim",
    "ws",
    "epoch",
    "min_count",
    "neg",
    "word_ngrams",
    "loss",
    "model",
    "bucket",
    "minn",
    "maxn",
    "lr_update_rate",
)
SUPERVISED = 3


@dataclass
class _Reader:
    data: bytes
    path: str
    at: int = 0

    def take(self, form: str) -> tuple[int, ...]:
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.data):
            raise CheckpointError(f"{self.path} ends early: copy or download it again.")
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return values

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise CheckpointError(f"{self.path} ends early: copy or download it again.")
        word, self.at = self.data[self.at : end], end + 1
        return word


def vectors(data: bytes, path: str) -> tuple[list[bytes], NDArray[np.float32]]:
    """The words and their vectors [V, D]. Raises CheckpointError for a file that can't be read."""
    reader = _Reader(data, path, len(MAGIC))
    (version,) = reader.take("i")
    if version not in VERSIONS:
        raise CheckpointError(f"{path} is a fastText model of version {version}; versions 11 and 12 are read.")
    settings = dict(zip(SETTINGS, reader.take("12i"), strict=True))
    reader.take("d")
    minn, maxn = settings["minn"], settings["maxn"]
    if version == 11 and settings["model"] == SUPERVISED:
        maxn = 0  # that version's classifiers had none, whatever they say
    size, count, _ = reader.take("3i")
    _, pruned = reader.take("2q")
    words = []
    for _ in range(size):
        word = reader.text()
        _, label = reader.take("qb")
        if label == 0:
            words.append(word)
    if pruned > 0:
        reader.take(f"{2 * pruned}i")
    (quantized,) = reader.take("b")
    if quantized:
        raise CheckpointError(
            f"{path} is quantized, and its vectors are only roughly known: take the model that isn't."
        )
    rows, width = reader.take("2q")
    if width != settings["dim"] or len(words) != count or rows < count:
        raise CheckpointError(f"{path} says two things of its sizes: it is damaged.")
    if reader.at + 4 * rows * width > len(data):
        raise CheckpointError(f"{path} ends early: copy or download it again.")
    matrix = np.frombuffer(data, dtype="<f4", count=rows * width, offset=reader.at).reshape(rows, width)
    found = np.empty((count, width), dtype=np.float32)
    for row, word in enumerate(words):
        parts = [row]
        if word != b"</s>" and maxn > 0 and rows > count:
            parts += [count + part % (rows - count) for part in hashes(word, minn, maxn)]
        found[row] = matrix[parts].mean(0)
    return words, found


def hashes(word: bytes, minn: int, maxn: int) -> list[int]:
    """The hashes of a word's n-grams of ``minn`` to ``maxn`` letters; single brackets are none."""
    letters = [bytes([byte]) for byte in b"<" + word + b">"]
    joined: list[bytes] = []
    for byte in letters:  # a letter's later bytes belong to it
        if joined and byte[0] & 0xC0 == 0x80:
            joined[-1] += byte
        else:
            joined.append(byte)
    found = []
    for begin in range(len(joined)):
        for size in range(minn, min(maxn, len(joined) - begin) + 1):
            if size == 1 and (begin == 0 or begin + size == len(joined)):
                continue
            found.append(_hash(b"".join(joined[begin : begin + size])))
    return found


def _hash(text: bytes) -> int:
    value = 2166136261
    for byte in text:
        value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
    return value
