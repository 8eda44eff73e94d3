"""Much text to ids, fast: the same ids as the library's, each distinct piece of text being encoded once.

A text is cut where the tokenizer's own pipeline would cut it anyway: before white space. Natural text repeats its
words, so nearly every piece is looked up instead of being encoded again. Character and byte tokenizers are a table.
Where a pipeline isn't known to allow this, the library reads the whole text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
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
_SOLID = re.compile(f"[^{_SPACE}]+")
_SPACES = re.compile(f"[{_SPACE}]")
_MORE_SPACES = ("\x1c", "\x1d", "\x1e", "\x1f")
# What a text may not contain for a shortcut to be exact. Of the last ones str.split splits at four, and BERT's
# normalizer drops all, joining what stands around them.
_ODD = {
    "characters": (),
    "bytes": (),
    "pieces": _MORE_SPACES,
    "words": _MORE_SPACES,
    "bert": (*_MORE_SPACES, "\x0b", "\x0c", "\x85"),
}
_CACHED = 500_000  # distinct pieces remembered, in about 80 MB
_JOINED = 1000  # pieces given to the library as one text
_SECTION = 1 << 20  # characters
_CONTEXT, _WINDOW = 256, 1 << 14  # characters looked at before and behind the place for a cut


@dataclass(frozen=True, slots=True)
class Bulk:
    """The tokens of several texts, one behind the other: ``ids`` [n]; bool [n] each: which start a word, a sentence.

    ``lengths``: the number of tokens of each text.
    """

    ids: NDArray[Any]
    words: Flags
    sentences: Flags
    lengths: NDArray[np.int64]


class BulkEncoder:
    """Encodes many texts with one tokenizer; ids have ``dtype`` (uint16 where the vocabulary allows, else uint32)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.dtype = np.dtype(np.uint16 if tokenizer.size <= 2**16 else np.uint32)
        self.way = _way(tokenizer)
        self._apart = self.way in ("words", "bert")
        self._cache: dict[str, bytes] = {}
        names = [token.content for token in tokenizer.inner.get_added_tokens_decoder().values()]
        # Where white space is dropped, a special token in the text is cut out of its piece as it is out of the text.
        harmless = self._apart and not any(_SPACES.search(name) for name in names)
        self._odd = _ODD.get(self.way, ())
        self._added = re.compile("|".join(map(re.escape, names))) if names and not harmless else None
        if self._added and len(names) < 10:  # a few searches for a string are faster than one for a pattern
            self._odd, self._added = (*self._odd, *names), None
        self._table = _table(tokenizer) if self.way == "characters" else None

    def sections(self, text: str) -> Iterator[str]:
        """Parts of a long text whose tokens, one behind the other, are those of the text: cut where sentences begin.

        The white space before a sentence goes with it. A text that the library has to read is never cut.
        """
        if len(text) <= _SECTION or self._whole(text):
            yield text
            return
        begin = 0
        while len(text) - begin > _SECTION:
            window = begin + _SECTION - _CONTEXT
            starts = sentence_starts(text[window : window + _CONTEXT + _WINDOW])
            cuts = [window + start - 1 for start in starts if start > _CONTEXT]
            if not cuts:
                break
            yield text[begin : cuts[0]]
            begin = cuts[0]
        yield text[begin:]

    def _whole(self, text: str) -> bool:
        """Whether only the library reads this text as the library does."""
        if self.way == "library" or any(name in text for name in self._odd):
            return True
        return self._added is not None and self._added.search(text) is not None

    def __call__(self, texts: Sequence[str]) -> Bulk:
        """The tokens of ``texts``, exactly those of ``tokenizer.encode``."""
        quick = {"characters": self._by_table, "bytes": self._by_bytes}.get(self.way, self._by_pieces)
        parts: list[Bulk] = []
        for whole, group in itertools.groupby(texts, key=self._whole):
            here = list(group)
            parts += [self._by_library(text) for text in here] if whole else [quick(here)]
        return parts[0] if len(parts) == 1 else _joined(parts, self.dtype)

    def _by_library(self, text: str) -> Bulk:
        encoding = self.tokenizer.encode(text)
        ids = np.asarray(encoding.ids, dtype=self.dtype)
        ends = np.maximum.accumulate(encoding.offsets[:, 1])
        starts = [match.start() for match in _SOLID.finditer(text)]
        words = _marks(len(ids), np.searchsorted(ends, np.asarray(starts, dtype=np.int64), side="right"))
        first = np.asarray(_solid_starts(text), dtype=np.int64)
        return Bulk(ids, words, _marks(len(ids), np.searchsorted(ends, first, side="right")), np.array([len(ids)]))

    def _by_table(self, texts: list[str]) -> Bulk:
        assert self._table is not None
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._table[points]
        lengths, heads = _places(texts)
        return Bulk(ids, self._words(ids, lengths), _marks(len(ids), heads), lengths)

    def _by_bytes(self, texts: list[str]) -> Bulk:
        ids = np.frombuffer("".join(texts).encode(), dtype=np.uint8).astype(self.dtype)
        characters = np.append(np.flatnonzero((ids & 0xC0) != 0x80), len(ids))  # the first byte of each
        lengths, heads = _places(texts)
        lengths = np.diff(characters[np.cumsum(lengths)], prepend=0)
        return Bulk(ids, self._words(ids, lengths), _marks(len(ids), characters[heads]), lengths)

    def _by_pieces(self, texts: list[str]) -> Bulk:
        pieces: list[str] = []
        first: list[int] = []  # of every sentence, its first piece
        last: list[int] = []  # of every text, the end of its pieces
        for text in texts:
            starts = _solid_starts(text)
            if not starts and text and not self._apart:
                pieces.append(text)
            for start, stop in zip(starts, [*starts[1:], len(text)], strict=False):
                first.append(len(pieces))
                if self._apart:
                    pieces += text[start:stop].split()
                else:  # the last white space before a sentence belongs to its first piece
                    begin = 0 if start == starts[0] else start - 1
                    pieces += _PIECES.findall(text, begin, stop if stop == len(text) else stop - 1)
            last.append(len(pieces))
        coded = self._look_up(pieces)
        ids = np.frombuffer(b"".join(coded), dtype=self.dtype)
        sizes = np.fromiter(map(len, coded), dtype=np.int64, count=len(coded)) // self.dtype.itemsize
        begins = np.concatenate([[0], np.cumsum(sizes)])
        lengths = np.diff(begins[np.asarray(last, dtype=np.int64)], prepend=0)
        heads = begins[np.asarray(first, dtype=np.int64)]
        if self._apart:
            words = _marks(len(ids), begins[:-1][sizes > 0])
        else:
            words = self._words(ids, lengths)
            solid = np.flatnonzero(words)
            heads = np.append(solid, len(ids))[np.searchsorted(solid, heads)]
        return Bulk(ids, words, _marks(len(ids), heads), lengths)

    def _words(self, ids: NDArray[Any], lengths: NDArray[np.int64]) -> Flags:
        return self.tokenizer.word_starts(ids, begins=np.cumsum(lengths) - lengths)

    def _look_up(self, pieces: list[str]) -> list[bytes]:
        unseen = set(pieces).difference(self._cache)
        if unseen:
            if len(self._cache) > _CACHED:
                self._cache = {}
                unseen = set(pieces)
            self._encode(list(unseen))
        return list(map(self._cache.__getitem__, pieces))

    def _encode(self, pieces: list[str]) -> None:
        """Encode pieces into the cache: many at once, as one text with a special token between them.

        The library cuts a text at special tokens before it does anything else, and is slow on many tiny texts.
        """
        mark, code = self.tokenizer.specials.get("end"), self.tokenizer.end_id
        plain = [] if mark is None else [piece for piece in pieces if mark not in piece]
        if len(plain) < len(pieces):
            rest = [piece for piece in pieces if mark is None or mark in piece]
            for piece, ids in zip(rest, self.tokenizer.encode_batch(rest), strict=True):
                self._cache[piece] = np.array(ids, dtype=self.dtype).tobytes()
        if mark is None:
            return
        groups = [plain[start : start + _JOINED] for start in range(0, len(plain), _JOINED)]
        for group, ids in zip(groups, self.tokenizer.encode_batch([mark.join(group) for group in groups]), strict=True):
            flat = np.array(ids, dtype=self.dtype)
            data, size = flat.tobytes(), self.dtype.itemsize
            begin = 0
            for piece, end in zip(group, [*(np.flatnonzero(flat == code) * size).tolist(), len(data)], strict=True):
                self._cache[piece] = data[begin:end]
                begin = end + size


def _solid_starts(text: str) -> list[int]:
    """Sentence starts, the first one at its first character that isn't white space."""
    starts = sentence_starts(text)
    if starts:
        starts[0] = len(text) - len(text.lstrip())
    return starts


def _places(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The length of every text, and where in all of them joined the sentences begin, in characters."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    starts = [np.asarray(_solid_starts(text), dtype=np.int64) for text in texts]
    shifted = [place + offset for place, offset in zip(starts, np.cumsum(lengths) - lengths, strict=True)]
    return lengths, np.concatenate([np.zeros(0, dtype=np.int64), *shifted])


def _marks(size: int, at: NDArray[np.int64]) -> Flags:
    flags = np.zeros(size, dtype=bool)
    flags[at[at < size]] = True
    return flags


def _joined(parts: list[Bulk], dtype: np.dtype[Any]) -> Bulk:
    flags, numbers = np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)
    return Bulk(
        np.concatenate([np.zeros(0, dtype=dtype), *(part.ids for part in parts)]),
        np.concatenate([flags, *(part.words for part in parts)]),
        np.concatenate([flags, *(part.sentences for part in parts)]),
        np.concatenate([numbers, *(part.lengths for part in parts)]),
    )


def _way(tokenizer: Tokenizer) -> str:
    """Which shortcut a pipeline allows.

    ``characters`` and ``bytes``: a table; ``pieces``: white space is kept; ``words`` and ``bert`` (with its normalizer):
    it is dropped; ``library``: none.
    """
    settings = tokenizer.pipeline
    normalizer = (settings["normalizer"] or {}).get("type")
    before = settings["pre_tokenizer"] or {}
    model = settings["model"]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in settings["added_tokens"]):
        return "library"
    if model.get("dropout") or model.get("ignore_merges") or normalizer not in (None, "Lowercase", "BertNormalizer"):
        return "library"
    byte_level = before.get("type") == "ByteLevel" and not before["add_prefix_space"]
    if tokenizer.kind == "char":
        exact = not before and normalizer is None and tokenizer.unk_id is not None and not model.get("fuse_unk")
        return "characters" if exact and not model.get("byte_fallback") else "library"
    if tokenizer.kind == "byte":
        identity = all(tokenizer.id(letter) == byte for byte, letter in enumerate(BYTE_LETTERS))
        return "bytes" if byte_level and normalizer is None and identity else "library"
    if before.get("type") in ("BertPreTokenizer", "WhitespaceSplit", "Whitespace") or _own_words(before):
        return "bert" if normalizer == "BertNormalizer" else "words"
    if normalizer != "BertNormalizer" and ((byte_level and before["use_regex"]) or _own_subwords(before)):
        return "pieces"
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
