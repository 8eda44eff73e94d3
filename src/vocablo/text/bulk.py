"""Much text to ids, fast: the same ids as the library's, each distinct piece of text being encoded once.

A text is cut where the tokenizer's own pipeline would cut it anyway: before white space. Natural text repeats its
words, so nearly every piece is looked up instead of being encoded again. Character and byte tokenizers are a table.
Where a pipeline isn't known to allow this, the library reads the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocablo.text.kinds import SUBWORDS, WORDS
from vocablo.text.sentences import sentence_starts
from vocablo.text.surfaces import BYTE_LETTERS
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import Flags

# Unicode's White_Space, which the library's patterns mean by \s; Python's has four control characters more.
_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PIECES = re.compile(f"[{_SPACE}]?[^{_SPACE}]+|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+")
_WORDS = re.compile(f"[^{_SPACE}]+")
_SPACES = re.compile(f"[{_SPACE}]")
_CACHED = 300_000


@dataclass(frozen=True, slots=True)
class Bulk:
    """The tokens of one text: ``ids`` [n], and bool [n] each: which start a word, which start a sentence."""

    ids: NDArray[Any]
    words: Flags
    sentences: Flags


class BulkEncoder:
    """Encodes many texts with one tokenizer; ids have ``dtype`` (uint16 where the vocabulary allows, else uint32)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.size <= 2**16 else np.uint32)
        self.way = _way(tokenizer)
        self._cache: dict[str, bytes] = {}
        names = [token.content for token in tokenizer.inner.get_added_tokens_decoder().values()]
        # Where white space is dropped, a special token in the text is cut out of its piece as it is out of the text.
        harmless = self.way == "words" and not any(_SPACES.search(name) for name in names)
        self._added = re.compile("|".join(map(re.escape, names))) if names and not harmless else None
        self._table = _table(tokenizer) if self.way == "characters" else None

    def __call__(self, text: str) -> Bulk:
        """The tokens of ``text``, exactly those of ``tokenizer.encode``."""
        if self.way == "library" or (self._added and self._added.search(text)) or _ODD[self.way].search(text):
            return self._by_library(text)
        if self.way == "characters":
            return self._by_table(text)
        if self.way == "bytes":
            return self._by_bytes(text)
        return self._by_pieces(text)

    def _by_library(self, text: str) -> Bulk:
        encoding = self.tokenizer.encode(text)
        ids = np.asarray(encoding.ids, dtype=self.dtype)
        ends = np.maximum.accumulate(encoding.offsets[:, 1]) if len(ids) else np.zeros(0, dtype=np.int64)
        starts = [match.start() for match in _WORDS.finditer(text)]
        words, sentences = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
        _mark(words, np.searchsorted(ends, np.asarray(starts, dtype=np.int64), side="right"))
        _mark(sentences, np.searchsorted(ends, np.asarray(_solid_starts(text), dtype=np.int64), side="right"))
        return Bulk(ids, words, sentences)

    def _by_table(self, text: str) -> Bulk:
        assert self._table is not None
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._table[points]
        sentences = np.zeros(len(ids), dtype=bool)
        sentences[np.asarray(_solid_starts(text), dtype=np.int64)] = True
        return Bulk(ids, self.tokenizer.word_starts(ids), sentences)

    def _by_bytes(self, text: str) -> Bulk:
        ids = np.frombuffer(text.encode(), dtype=np.uint8)
        heads = np.flatnonzero((ids & 0xC0) != 0x80)  # the first byte of every character
        sentences = np.zeros(len(ids), dtype=bool)
        sentences[heads[np.asarray(_solid_starts(text), dtype=np.int64)]] = True
        return Bulk(ids.astype(self.dtype), self.tokenizer.word_starts(ids), sentences)

    def _by_pieces(self, text: str) -> Bulk:
        pieces: list[str] = []
        first: list[int] = []  # of every sentence, its first piece
        apart = self.way == "words"
        starts = _solid_starts(text)
        for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
            first.append(len(pieces))
            if apart:
                pieces += text[start:stop].split()
            else:  # the last white space before a sentence belongs to its first piece
                begin = 0 if start == starts[0] else start - 1
                pieces += _PIECES.findall(text, begin, stop if stop == len(text) else stop - 1)
        if not starts and text and not apart:
            pieces = [text]
        coded = self._look_up(pieces)
        ids = np.frombuffer(b"".join(coded), dtype=self.dtype)
        sizes = np.fromiter(map(len, coded), dtype=np.int64, count=len(coded)) // self.dtype.itemsize
        begins = np.concatenate([[0], np.cumsum(sizes)])
        sentences = np.zeros(len(ids), dtype=bool)
        heads = begins[np.asarray(first, dtype=np.int64)]
        if apart:
            words = np.zeros(len(ids), dtype=bool)
            _mark(words, begins[:-1])
        else:
            words = self.tokenizer.word_starts(ids)
            solid = np.flatnonzero(words)
            heads = np.append(solid, len(ids))[np.searchsorted(solid, heads)]
        _mark(sentences, heads)
        return Bulk(ids, words, sentences)

    def _look_up(self, pieces: list[str]) -> list[bytes]:
        found = list(map(self._cache.get, pieces))
        if None not in found:
            return found  # type: ignore[return-value]
        unseen = list({piece for piece, code in zip(pieces, found, strict=True) if code is None})
        fresh = dict(zip(unseen, self._encode(unseen), strict=True))
        if len(self._cache) + len(fresh) <= _CACHED:
            self._cache |= fresh
        return [fresh[piece] if code is None else code for piece, code in zip(pieces, found, strict=True)]

    def _encode(self, texts: Sequence[str]) -> list[bytes]:
        kind = self.dtype.type
        return [np.array(ids, dtype=kind).tobytes() for ids in self.tokenizer.encode_batch(texts)]


# What a text may not contain for a shortcut to be exact.
_ODD = {
    "characters": re.compile(r"(?!)"),
    "bytes": re.compile(r"(?!)"),
    "pieces": re.compile(r"(?!)"),
    # str.split also splits at the first four; BERT's normalizer drops them all, joining what stands around them.
    "words": re.compile("[\x1c-\x1f\x0b\x0c\x85]"),
}


def _solid_starts(text: str) -> list[int]:
    """Sentence starts, the first one at its first character that isn't white space."""
    starts = sentence_starts(text)
    if starts:
        starts[0] = len(text) - len(text.lstrip())
    return starts


def _mark(flags: Flags, at: NDArray[np.int64]) -> None:
    flags[at[at < len(flags)]] = True


def _way(tokenizer: Tokenizer) -> str:
    """Which shortcut a pipeline allows: characters, bytes, pieces (white space kept), words (lost) or library."""
    settings = tokenizer.pipeline
    normalizer = (settings["normalizer"] or {}).get("type")
    before = settings["pre_tokenizer"] or {}
    model = settings["model"]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in settings["added_tokens"]):
        return "library"
    plain = not (model.get("dropout") or model.get("byte_fallback") or model.get("fuse_unk"))
    if tokenizer.kind == "char" and not before and normalizer is None and plain and tokenizer.unk_id is not None:
        return "characters"
    byte_level = before.get("type") == "ByteLevel" and not before["add_prefix_space"]
    if tokenizer.kind == "byte":
        identity = all(tokenizer.id(letter) == byte for byte, letter in enumerate(BYTE_LETTERS))
        return "bytes" if byte_level and normalizer is None and identity else "library"
    if model.get("dropout") or normalizer not in (None, "Lowercase", "BertNormalizer"):
        return "library"
    if normalizer != "BertNormalizer" and ((byte_level and before["use_regex"]) or _own_subwords(before)):
        return "pieces"
    if before.get("type") in ("BertPreTokenizer", "WhitespaceSplit", "Whitespace") or _own_words(before):
        return "words"
    return "library"


def _own_subwords(before: dict[str, Any]) -> bool:
    steps = before.get("pretokenizers") or [{}]
    return len(steps) == 2 and steps[0].get("pattern") == {"Regex": SUBWORDS} and steps[1].get("type") == "Metaspace"


def _own_words(before: dict[str, Any]) -> bool:
    return before.get("type") == "Split" and before.get("pattern") == {"Regex": WORDS}


def _table(tokenizer: Tokenizer) -> NDArray[Any]:
    """The id of every code point, [0x110000]."""
    table = np.full(0x110000, tokenizer.unk_id, dtype=np.uint16 if tokenizer.size <= 2**16 else np.uint32)
    for index, name in enumerate(tokenizer.vocabulary):
        if len(name) == 1:
            table[ord(name)] = index
    return table
