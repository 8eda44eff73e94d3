"""Words as fixed rows of character ids, for models that read how a word is spelled and so know no unknown word.

A character is a byte of UTF-8, so that any word of any language can be spelled: "ñ" is two. A byte ``b`` has the id
``b + 1``, and 0 is nothing. ``PLAIN`` is that, padded with 0; ``ELMO`` is the scheme of Peters et al. (2018, and their
``bilm`` code), 50 wide, with marks:

    gato         begin-of-word  g a t o  end-of-word  padding ...      (48 bytes of a word are read, the rest isn't)
    a sentence   stands between two words of its own: begin-of-word begin-of-sentence end-of-word padding ..., and the like

Their files have a row for each id but 0, so the ids there are smaller by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError
from vocablo.text.tokenizer import Tokenizer

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
