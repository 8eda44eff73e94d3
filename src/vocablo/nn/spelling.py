"""Words by their letters and by themselves (Lample et al. 2016, section 4).

    x = [E[lower-cased word]; forward(letters); backward(letters)]

The table sees a word in lower case, so that "Madrid" and "madrid" share a vector; the letters are read from both ends as they
are written, and tell capitals and endings, of unknown words too. A letter is a byte of UTF-8 (``text/characters.py``).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError
from vocablo.contract import Fences
from vocablo.nn.pooling import pool
from vocablo.nn.recurrent import TwoWayStack
from vocablo.text.characters import MoreWords, Scheme
from vocablo.text.tokenizer import Tokenizer


class Chars(Settings):
    """``width`` of a letter's vector, ``hidden`` units each way, ``most`` letters (bytes) of a word that are read."""

    width: int = Field(default=25, ge=1)
    hidden: int = Field(default=25, ge=1)
    most: int = Field(default=24, ge=1)


class Spelled(nn.Module):
    """Which row of the words' table every token reads, and the vector of its letters.

    ``more`` are words beyond the vocabulary, by the numbers that they were given; they aren't saved.
    """

    def __init__(self, chars: Chars, vocab: int, unknown: int | None) -> None:
        super().__init__()
        self.scheme, self.vocab, self.unknown = Scheme(chars.most), vocab, unknown
        self.letters = nn.Embedding(self.scheme.size, chars.width)
        self.stack = TwoWayStack("lstm", chars.width, chars.hidden, 1, 0.0)
        self.more = MoreWords(self.scheme, vocab)
        self._known: dict[bytes, int] = {}  # letters -> place, made of ``spellings`` when it is first asked for
        self.spellings: Tensor
        self.folded: Tensor
        self.register_buffer("spellings", torch.zeros(vocab, chars.most, dtype=torch.int16))
        self.register_buffer("folded", torch.arange(vocab))

    def spell(self, tokenizer: Tokenizer) -> None:
        """Tell it the letters of its words, and which of them are others in capitals."""
        words = [spelled.strip() for spelled in tokenizer.surfaces]
        places = {word: place for place, word in enumerate(words)}
        self.spellings[: len(words)] = torch.from_numpy(self.scheme.table(tokenizer))
        special = tokenizer.special_ids
        self._known = {}
        for place, word in enumerate(words):
            if place not in special:
                self.folded[place] = places.get(word.lower(), place)

    def forward(self, ids: Int[Tensor, "N"]) -> tuple[Int[Tensor, "N"], Float[Tensor, "N C"]]:
        """Rows of the table and vectors of letters, each different word being spelled once."""
        self._letters_known()
        words, which = torch.unique(ids, return_inverse=True)
        inside = words.clamp(max=self.vocab - 1)
        rows, places = self.spellings.index_select(0, inside), self.folded.index_select(0, inside)
        for at in (words >= self.vocab).nonzero().flatten().tolist():
            row = self.more.rows([int(words[at])])[0]
            rows[at], places[at] = torch.from_numpy(row), self._place(row)
        lengths = (rows > 0).sum(1).clamp(min=1)
        read = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]
        fences = Fences.of(lengths.tolist(), rows.device)
        ends = pool(self.stack(self.letters(rows[read].long()), fences), fences, "ends")
        return places.index_select(0, which), ends.index_select(0, which)

    def _place(self, row: NDArray[np.int16]) -> int:
        """The row of the table for letters beyond the vocabulary: their lower case, where that is known."""
        lower = _letters(row.tolist()).decode("utf-8", "ignore").lower().encode()
        return self._letters_known().get(lower, self.unknown or 0)

    def _letters_known(self) -> dict[bytes, int]:
        if not self._known:
            if not bool(self.spellings.any()):
                raise ConfigError(
                    "This model wasn't told the letters of its words: chars are for finetune, not for pretrain."
                )
            self._known = {_letters(one): place for place, one in enumerate(self.spellings.tolist())}
        return self._known


def _letters(row: list[int]) -> bytes:
    return bytes(letter - 1 for letter in row if letter)
