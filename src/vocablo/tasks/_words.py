"""Sentences of words as windows of tokens: which token tells of which word, and what is read around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocablo.base.errors import DataError
from vocablo.data.examples import TaggedExample
from vocablo.tasks._reading import Framed, Reader
from vocablo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Window:
    """A sequence that tells the ``words`` of a sentence (places in the examples, and in it), each at the token of ``at``."""

    sentence: int
    words: tuple[int, ...]
    at: tuple[int, ...]
    framed: Framed


def windows(reader: Reader, examples: Sequence[TaggedExample], around: int, *, last: bool, where: str) -> list[Window]:
    """The windows of all sentences. ``last``: a word is told at its last token, else at its first.

    Raises DataError for a sentence without words and for a word of which the tokenizer leaves nothing.
    """
    split = [_tokens(reader.tokenizer, example, last, where) for example in examples]
    room = reader.room(pair=False)
    made: list[Window] = []
    for number, (ids, at) in enumerate(split):
        before, after = _beside(examples, split, number, around) if around else ([], [])
        stream = [*before, *ids, *after]
        for begin, stop, low, high in _cut(len(before), len(ids), len(after), room):
            words = [word for word, place in enumerate(at) if begin <= place + len(before) < stop]
            if not words:
                continue
            framed = reader.template.alone(stream[low:high])
            ahead = len(reader.template.alone.specials[0]) + len(before) - low
            made.append(Window(number, tuple(words), tuple(at[word] + ahead for word in words), framed))
    return made


def _cut(before: int, size: int, after: int, room: int | None) -> list[tuple[int, int, int, int]]:
    """For each window of a stream: the tokens whose words are told there, and those that are read: from, to, twice.

    A sentence that fits is one window, with as much beside it as there is room for; a longer one is told in pieces of half
    the room, with a quarter of it read on either side.
    """
    total = before + size + after
    if room is None or total <= room:
        return [(before, before + size, 0, total)]
    if size <= room:
        left = min(before, max((room - size) // 2, room - size - after))
        low = before - left
        return [(before, before + size, low, min(total, low + room))]
    step = max(1, room // 2)
    found = []
    for begin in range(before, before + size, step):
        stop = min(begin + step, before + size)
        low = max(0, min(begin - (room - step) // 2, total - room))
        found.append((begin, stop, low, min(total, low + room)))
    return found


def _beside(
    examples: Sequence[TaggedExample], split: Sequence[tuple[list[int], Any]], number: int, around: int
) -> tuple[list[int], list[int]]:
    """The tokens of the same document before a sentence, and behind it."""
    document = examples[number].document
    before: list[int] = []
    after: list[int] = []
    place = number - 1
    while place >= 0 and examples[place].document == document and len(before) < around:
        before = split[place][0] + before
        place -= 1
    place = number + 1
    while place < len(examples) and examples[place].document == document and len(after) < around:
        after = after + split[place][0]
        place += 1
    return before[-around:], after[:around]


def _tokens(tokenizer: Tokenizer, example: TaggedExample, last: bool, where: str) -> tuple[list[int], list[int]]:
    """The ids of a sentence, and the token at which each of its words is told."""
    if not example.words:
        raise DataError(f"{where}: sentence {example.id} has no words.")
    encoding = tokenizer.encode(" ".join(example.words))
    ids, offsets = list(encoding.ids), encoding.offsets
    ends = np.cumsum([len(word) + 1 for word in example.words])
    starts = ends - [len(word) + 1 for word in example.words]
    # A token may begin with the space before its word: it belongs to the word that its last character is in.
    of = np.searchsorted(ends, np.maximum(offsets[:, 1] - 1, offsets[:, 0]), side="right")
    real = offsets[:, 1] > starts[np.minimum(of, len(starts) - 1)]
    places: list[int | None] = [None] * len(example.words)
    for token in range(len(ids)):
        word = int(of[token])
        if real[token] and word < len(places) and (last or places[word] is None):
            places[word] = token
    if None in places:
        ids, places = _put_in(tokenizer, example, ids, places, where)
    return ids, [place for place in places if place is not None]


def _put_in(
    tokenizer: Tokenizer, example: TaggedExample, ids: list[int], places: list[int | None], where: str
) -> tuple[list[int], list[int | None]]:
    """The unknown token in the place of words of which nothing is left (a control character, say)."""
    missing = [word for word, place in enumerate(places) if place is None]
    if tokenizer.unk_id is None:
        raise DataError(
            f"{where}: sentence {example.id}: the tokenizer leaves nothing of the word {example.words[missing[0]]!r}, so it "
            "can't be tagged: leave it out."
        )
    for word in missing:
        later = next((place for place in places[word + 1 :] if place is not None), len(ids))
        ids = [*ids[:later], tokenizer.unk_id, *ids[later:]]
        places = [None if p is None else p + (p >= later) for p in places]
        places[word] = later
    return ids, places
