"""What a word is, for the eye and for the count.

*For the count* (perplexity per word, ``counts.words``) a word is what stands between white space: ``count_words``.
``word_starts`` finds the same words in token ids: exactly for tokenizers whose tokens keep their white space (char,
byte, bpe, unigram); word and WordPiece tokens have lost it, and there every token that doesn't go on with the one
before it starts a word, so punctuation counts. (The token store marks words from the text, exact for every kind.)

*For the eye* (the next words of a prompt) a word also ends at punctuation: ``WordTable``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocablo.text.surfaces import raw_bytes, readable

Flags = NDArray[np.bool_]


def count_words(text: str) -> int:
    """The number of words of a text: maximal runs without white space."""
    return len(text.split())


@dataclass(frozen=True, slots=True)
class WordTable:
    """For every id of the vocabulary, bool [V] each; of the three, at most one is true.

    ``begins``: opens a new word (or mark) even when it directly follows a word: it has a leading space, is punctuation,
    a special token, or a WordPiece or word token without ``##``. ``joins``: goes on with the word before it, if there
    is one. ``space``: white space only.
    """

    begins: Flags
    joins: Flags
    space: Flags


@dataclass(frozen=True, slots=True)
class Shapes:
    """What ``word_starts`` needs of every id: bool [V] each."""

    solid: Flags  # has something that isn't white space, and isn't a special token
    led: Flags  # starts a word whatever comes before it
    closes: Flags  # what follows it starts a word: it ends in white space, or is a boundary


def tables(
    vocabulary: Sequence[str], spelled: str, specials: set[str], unknown: str | None
) -> tuple[WordTable, Shapes]:
    """Word table and shapes of a vocabulary (token of each id), given how it spells text (``surfaces.spelling``)."""
    size = len(vocabulary)
    begins, joins, space, solid, led, closes = (np.zeros(size, dtype=bool) for _ in range(6))
    apart = spelled in ("words", "wordpiece")  # the white space between tokens is lost
    for index, token in enumerate(vocabulary):
        if token in specials and token != unknown:
            begins[index] = closes[index] = True
            continue
        if token == unknown:
            begins[index] = led[index] = apart
            joins[index] = not apart
            solid[index] = True
            continue
        text = readable(raw_bytes(token, spelled))
        space[index] = text.isspace() or not text
        solid[index] = not space[index]
        goes_on = spelled == "wordpiece" and token.startswith("##") and len(token) > 2
        if apart:
            led[index] = solid[index] and not goes_on
        else:
            led[index] = solid[index] and text[0].isspace()
            closes[index] = not text or text[-1].isspace()
        if solid[index]:
            opens = not goes_on if apart else not word_like(text[0])
            begins[index], joins[index] = opens, not opens
    return WordTable(begins, joins, space), Shapes(solid, led, closes)


def word_like(character: str) -> bool:
    """Letters, digits, combining marks, and the backslash that shows a part of a character."""
    return character.isalnum() or character in "_\\" or unicodedata.category(character).startswith("M")


def word_starts(ids: Any, shapes: Shapes, begins: Any = (0,)) -> Flags:
    """bool [N]: which of the tokens starts a word; nothing comes before the tokens at the places ``begins``."""
    ids = np.asarray(ids, dtype=np.int64)
    after = np.zeros(len(ids) + 1, dtype=bool)
    after[1:] = shapes.closes[ids]
    after[np.asarray(begins, dtype=np.int64)] = True
    return shapes.solid[ids] & (shapes.led[ids] | after[:-1])
