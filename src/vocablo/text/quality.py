"""How well a tokenizer fits a text, in the numbers that people compare tokenizers by."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vocablo.text.words import count_words

_SAMPLE = 160  # characters of the first text that are shown cut into tokens
_BATCH = 256


class Coder(Protocol):
    """What is asked of a tokenizer here."""

    @property
    def unk_id(self) -> int | None: ...
    @property
    def surfaces(self) -> list[str]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of a tokenizer on texts; None where there was no text.

    ``bytes_per_token``: UTF-8 bytes of the text for each token, the higher the shorter the sequences.
    ``tokens_per_word``: tokens for each word between white space (*fertility*). ``unknown_rate``: the share of tokens
    that are unknown. ``used``: the share of the vocabulary that the texts use. ``longest``: the longest tokens of the
    vocabulary. ``sample``: the beginning of the first text, a ``|`` between tokens.
    """

    bytes_per_token: float | None
    tokens_per_word: float | None
    unknown_rate: float | None
    used: float | None
    longest: list[str]
    sample: str | None


def measure(tokenizer: Coder, texts: Iterable[str]) -> Quality:
    """Measure ``tokenizer`` on texts, read once."""
    tokens = size = words = unknown = 0
    seen: set[int] = set()
    sample = None
    rest = iter(texts)
    while batch := list(itertools.islice(rest, _BATCH)):
        if sample is None and any(batch):
            first = next(text for text in batch if text)
            sample = "|".join(tokenizer.surfaces[index] for index in tokenizer.encode_batch([first[:_SAMPLE]])[0])
        for text, ids in zip(batch, tokenizer.encode_batch(batch), strict=True):
            tokens += len(ids)
            size += len(text.encode())
            words += count_words(text)
            unknown += 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
            seen.update(ids)
    surfaces = [text for index, text in enumerate(tokenizer.surfaces) if index not in tokenizer.special_ids]
    longest = sorted(surfaces, key=lambda text: (-len(text), text))[:10]
    if not tokens or not words:
        return Quality(None, None, None, None, longest, sample)
    used = len(seen) / len(tokenizer.surfaces)
    return Quality(size / tokens, tokens / words, unknown / tokens, used, longest, sample)
