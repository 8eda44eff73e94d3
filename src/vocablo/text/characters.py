"""Words as fixed rows of character ids, for models that read how a word is spelled and so know no unknown word.

A character is a byte of UTF-8, so that any word of any language can be spelled: "ñ" is two. A byte ``b`` has the id
``b + 1``, and 0 is nothing. ``PLAIN`` is that, padded with 0; ``ELMO`` is the scheme of Peters et al. (2018, and their
``bilm`` code), 50 wide, with marks:

    gato         begin-of-word  g a t o  end-of-word  padding ...      (48 bytes of a word are read, the rest isn't)
    a sentence   stands between two words of its own: begin-of-word begin-of-sentence end-of-word padding ..., and the like

Their files have a row for each id but 0, so the ids there are smaller by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError
from vocablo.text.tokenizer import Encoding, Tokenizer

BYTES = 256
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = range(BYTES + 1, BYTES + 6)
Rows = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Scheme:
    """``width`` is C, the ids of a row; ``marked`` puts ELMo's marks around the bytes of a word."""

    width: int
    marked: bool = False

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"A word has {3 if self.marked else 1} characters or more; got a width of {self.width}.")

    @property
    def most(self) -> int:
        """How many bytes of a word are read; those behind them aren't (``cut`` says of which words)."""
        return self.width - 2 if self.marked else self.width

    @property
    def size(self) -> int:
        """How many ids there are, 0 included: the rows of a model's table."""
        return PADDING + 1 if self.marked else BYTES + 1

    def rows(self, words: Iterable[str | bytes]) -> Rows:
        """The ids of each word, [N, C]."""
        # A lone surrogate, which no UTF-8 has, is spelled as Python would write it.
        data = [word if isinstance(word, bytes) else word.encode("utf-8", "surrogatepass") for word in words]
        lengths = np.array([min(len(one), self.most) for one in data], dtype=np.int64)[:, None]
        letters = np.array(data, dtype=f"S{self.most}").view(np.uint8).reshape(-1, self.most)
        places = np.arange(self.most)
        pad = PADDING if self.marked else 0
        rows = np.where(places < lengths, letters.astype(np.int16) + 1, np.int16(pad))
        if not self.marked:
            return rows
        framed = np.full((len(data), self.width), pad, dtype=np.int16)
        framed[:, 0], framed[:, 1:-1] = BEGIN_WORD, rows
        np.put_along_axis(framed, lengths + 1, END_WORD, axis=1)
        return framed

    def table(self, tokenizer: Tokenizer) -> Rows:
        """The ids of every token, [V, C], spelled without white space.

        With marks, the boundary is the end of a sentence, and cls, where there is one, its begin.
        What stands for unknown words is spelled by its name ("<unk>"): who has the text gives the word itself.
        """
        table = self.rows(spelled.strip() for spelled in tokenizer.token_bytes)
        if self.marked and tokenizer.end_id is not None:
            table[tokenizer.end_id] = self.end_sentence
        if self.marked and tokenizer.cls_id is not None:
            table[tokenizer.cls_id] = self.begin_sentence
        return table

    def cut(self, words: Iterable[str]) -> list[str]:
        """The words that have more bytes than are read."""
        return [word for word in words if len(word.encode()) > self.most]

    @property
    def begin_sentence(self) -> NDArray[np.int16]:
        """The row of the word that stands before a sentence. Only with marks."""
        return self._marked(BEGIN_SENTENCE)

    @property
    def end_sentence(self) -> NDArray[np.int16]:
        """The row of the word that stands behind a sentence. Only with marks."""
        return self._marked(END_SENTENCE)

    def _marked(self, mark: int) -> NDArray[np.int16]:
        if not self.marked:
            raise ConfigError("A scheme without marks has no words for the begin and the end of a sentence.")
        row = np.full(self.width, PADDING, dtype=np.int16)
        row[:3] = BEGIN_WORD, mark, END_WORD
        return row


ELMO = Scheme(50, marked=True)
PLAIN = Scheme(24)


class MoreWords:
    """Words that a vocabulary lacks, numbered from ``first`` on as they come, so that they go where numbers of tokens go.

    They are kept as long as the object, and copies of it are the object itself: copies of a model know the same words.
    """

    def __init__(self, scheme: Scheme, first: int) -> None:
        self.scheme, self.first = scheme, first
        self._numbers: dict[str, int] = {}
        self._rows: list[NDArray[np.int16]] = []

    def number(self, word: str) -> int:
        """The number of a word: the one that it was given when it first came."""
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = self.first + len(self._rows)
            self._rows.append(self.scheme.rows([word])[0])
        return found

    def rows(self, numbers: Iterable[int]) -> Rows:
        """The ids of numbered words, [N, C]."""
        return np.stack([self._rows[number - self.first] for number in numbers])

    def __len__(self) -> int:
        return len(self._rows)

    def __deepcopy__(self, memo: object) -> MoreWords:
        return self


class OpenTokenizer(Tokenizer):
    """A tokenizer that gives unknown words numbers of their own, for a model that reads how they are spelled (``MoreWords``)."""

    def __init__(self, tokenizer: Tokenizer, more: MoreWords) -> None:
        super().__init__(tokenizer.inner, tokenizer.roles, tokenizer._config)
        self.more = more

    @classmethod
    def of(cls, tokenizer: Tokenizer, model: object) -> Tokenizer:
        """The tokenizer as it is, unless the model can be told ``more`` words."""
        more = getattr(model, "more", None)
        if not isinstance(more, MoreWords) or tokenizer.unk_id is None:
            return tokenizer
        return cls(tokenizer, more)

    def encode(self, text: str) -> Encoding:
        """The tokens of a text; an unknown one has the number of its word."""
        found = super().encode(text)
        spans = found.offsets.tolist()
        ids = [
            self.more.number(self._normal(text[begin:end])) if index == self.unk_id and end > begin else index
            for index, (begin, end) in zip(found.ids, spans, strict=True)
        ]
        names = [
            name if index < self.more.first else text[begin:end]
            for name, index, (begin, end) in zip(found.tokens, ids, spans, strict=True)
        ]
        return Encoding(ids, found.offsets, found.words, names)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [self.encode(text).ids for text in texts]

    def with_roles(self, roles: Mapping[str, str]) -> Tokenizer:
        return OpenTokenizer(super().with_roles(roles), self.more)

    def _normal(self, word: str) -> str:
        normalizer = self.inner.normalizer
        return word if normalizer is None else normalizer.normalize_str(word)
