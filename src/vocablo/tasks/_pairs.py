"""A source and a target as a model of ``contract.SourceTargetModel`` reads them, and a target written from a source.

source   x_1 ... x_S <end>                            framed as the tokenizer's file says, else with its end
target   <start> y_1 ... y_T  ->  y_1 ... y_T <end>   what the decoder reads, and what it is to predict
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Batch, Fences, SourceTargetModel, Target, Tokens
from vocablo.decoding.beam import Hypothesis, by_length, search
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import from_sources
from vocablo.tasks._fitting import template
from vocablo.tasks._reading import Framed, Reader, ReadSettings
from vocablo.tasks._rows import Encoded, Ints, within
from vocablo.text.languages import is_language, language_id
from vocablo.text.tokenizer import Tokenizer

BUDGET = 4096  # source tokens times hypotheses that are decoded at once


class PairReader(Reader):
    """Reads sources and targets. ``read.context`` are the tokens of a source at most; of a target the model's own limit."""

    def __init__(self, model: Any, tokenizer: Tokenizer, settings: ReadSettings) -> None:
        self.tokenizer, self.settings, self.reads = tokenizer, settings, model.reads
        usual = ReadSettings()
        fixed = ("pooling", "language", "features", "freeze", "dropout")
        if asked := [name for name in fixed if getattr(settings, name) != getattr(usual, name)]:
            raise ConfigError(f"read.{asked[0]} isn't for a task that writes texts: leave it out.")
        self.template = template(tokenizer.source, model)
        longest = model.source_context
        if settings.context is not None and longest is not None and settings.context > longest:
            raise ConfigError(f"read.context is {settings.context}, and the model reads at most {longest} tokens.")
        self.context = settings.context or longest
        self.model, self.end = model, tokenizer.end_id
        self.frozen, self.names, self.attends = False, (), False
        sizes = {"source": (tokenizer.source.size, getattr(model, "source_vocab", model.vocab))}
        sizes["target"] = (tokenizer.size, model.vocab)
        for side, (has, knows) in sizes.items():
            if has > knows:
                raise ConfigError(
                    f"The {side} tokenizer has {has} tokens and the model {knows}: they don't belong together."
                )

    @property
    def opening(self) -> tuple[int, ...]:
        """What a published model's targets begin with, behind its start: <s> (BART), or a language.

        Raises ConfigError where that is a language that nobody has chosen.
        """
        found = getattr(self.model, "opening", ())
        if found is None:
            raise ConfigError(
                "This model writes many languages: say which one (--language es_XX, __es__ or es, as its tokenizer has it; "
                "task.language in a recipe)."
            )
        return tuple(found)

    def speak(self, target: str | None, source: str | None) -> None:
        """Choose, of a model of many languages, which one is written and which is read: a token (es_XX, __es__) or code (es).

        Raises ConfigError for one that isn't known.
        """
        if target is not None:
            token, start = language_id(self.tokenizer, target), self.model.start[0]
            if start < self.tokenizer.size and is_language(self.tokenizer.vocabulary[start]):
                self.model.start, self.model.opening = (token,), ()
            else:
                self.model.opening = (token,)
        if source is not None:
            tokenizer = self.tokenizer.source
            token = language_id(tokenizer, source)
            there = [one for part in self.template.alone.specials for one in part]
            said = [one for one in there if is_language(tokenizer.vocabulary[one])]
            if not said:
                raise ConfigError("This model's sources don't say their language: leave the source language out.")
            self.template = self.template.exchanged(dict.fromkeys(said, token))

    @property
    def start(self) -> tuple[int, ...]:
        """All that stands before a target's text."""
        return (*self.model.start, *self.opening)

    @property
    def target_room(self) -> int | None:
        """How many tokens of text a target may have; None: any number."""
        return None if self.model.context is None else self.model.context - len(self.start)

    def source(self, ids: Sequence[int], where: str) -> tuple[Framed, bool]:
        """A source framed, and whether it was cut. Raises DataError for one that is empty, or too long with read.long=error."""
        if not ids:
            raise DataError(f"{where} has an empty source: there is nothing to read.")
        return self.single(ids, where)

    def target(self, ids: Sequence[int], where: str) -> tuple[list[int], bool]:
        """A target from its start to its end, and whether it was cut; a cut one has no end."""
        room = self.target_room
        if room is None or len(ids) <= room:
            assert self.end is not None
            return [*self.start, *ids, self.end], False
        self._refuse(f"{where} (its target)", len(ids), room)
        return [*self.start, *ids[: room + 1]], True


@dataclass(frozen=True)
class Pairs(Encoded):
    """Examples that are a source each (as ``Encoded``), with the sequences of their targets, of one row each."""

    targets: Encoded | None = None  # None: not known

    @cached_property
    def sizes(self) -> Ints:
        """Tokens of each example's longer side, [E]."""
        sources = self.lengths
        return sources if self.targets is None else np.maximum(sources, self.targets.lengths - 1)

    @property
    def total(self) -> int:
        return len(self.ids) + (0 if self.targets is None else len(self.targets.ids) - len(self.targets))

    @cached_property
    def crc32(self) -> int:
        sources = super().crc32
        return sources if self.targets is None else (sources * 31 + self.targets.crc32) % 2**32

    def batch(self, which: Ints, name: str, start: int) -> Batch:
        """Sources and targets of some examples; ``start`` tokens of a target are given, and the others are to be told."""
        assert self.targets is not None, "targets that aren't known can't be learnt"
        rows = self.targets
        lengths = rows.lengths[which]
        places = within(lengths)
        ids = rows.ids[np.repeat(rows.starts[which], lengths) + places].astype(np.int64)
        read = places < np.repeat(lengths - 1, lengths)
        told = places >= start
        at = np.flatnonzero(places[read] >= start - 1)
        fences = Fences.of((lengths - 1).tolist())
        tokens = Tokens(torch.from_numpy(ids[read]), fences, torch.from_numpy(places[read]))
        target = Target(torch.from_numpy(at), torch.from_numpy(ids[told]), len(at))
        return Batch(tokens, {name: target}, source=self.tokens(which))


def written(
    model: SourceTargetModel, tokenizer: Tokenizer, sources: Sequence[Sequence[int]], settings: DecodeSettings
) -> Iterator[tuple[list[int], list[list[Hypothesis]]]]:
    """The hypotheses of every source, in batches of sources of like length: their places, and what was found for each."""
    end = tokenizer.end_id
    settings.fits(model.vocab, end)
    device = next(model.parameters()).device  # type: ignore[attr-defined]
    for places in by_length([len(source) for source in sources], max(1, BUDGET // settings.beam)):
        start = from_sources(model, Tokens.of([sources[place] for place in places], device))
        yield places, search(start, settings, end)
