"""Denoising: an encoder reads a text with noise, and a decoder tells from it what was lost.

    L = - sum_t log p(y_t | y_<t, noised x)        y ends with the tokenizer's end, which is told as well

``denoising`` (BART, Lewis et al. 2020): y is the whole text. Its noises, in the order in which they are put on one another:
    permute   share of rows whose sentences stand in another order
    rotate    share of rows that begin at another token
    delete    share of tokens that are gone
    infill    share of tokens in spans, of Poisson(``mean_span``) tokens each, that one mask stands for, an empty one too
    mask      share of tokens that a mask stands for, one each
BART's own is infill = 0.3 and permute = 1, the default.
``span_corruption`` (T5, Raffel et al. 2020): a share ``corrupt`` of the tokens, in spans of ``mean_span`` tokens. In x
sentinels stand for the spans; y is the spans behind their sentinels, and one sentinel more. T5's own code always corrupts a
row's last token and leaves that sentinel out: here any spans may be chosen, and the figure of the paper is followed.
``prefix`` (Liu et al. 2018; Raffel et al. 2020): x is a row's beginning and y its rest, cut at a place drawn at random.

How rows are cut, ``_blocks`` says; between documents (``shuffled``) the boundary is a token like others. Around x stand the
special tokens that the tokenizer's file says, else its end behind it; before y the ids that the model starts with. Noise is
drawn anew in each step, and depends on the seed, the step and the row's place in the step alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch, Fences, SourceTargetModel, Target, Term, Tokens
from vocablo.data.workers import SENTENCE
from vocablo.pretexts import _noise as noise
from vocablo.pretexts._blocks import BlockPretext
from vocablo.pretexts._noise import Draws
from vocablo.pretexts._pretext import untold
from vocablo.pretexts._rows import Ints, MarkedStream, Spans
from vocablo.text.specials import SENTINEL
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

READS = ("source_target",)
PRETEXTS = {
    "denoising": "tell a text from one with holes and shuffled sentences (BART)",
    "span_corruption": "tell the missing spans of a text (T5)",
    "prefix": "go on with a text whose beginning is read (prefix LM)",
}
# Which settings each of them has; the others are refused.
OWN: dict[str, set[str]] = {
    "denoising": {"permute", "rotate", "delete", "infill", "mask", "mean_span"},
    "span_corruption": {"corrupt", "mean_span"},
    "prefix": set(),
}


class Config(Settings):
    """How rows are cut (``_blocks``) and what noise they get: see the module's docstring."""

    name: Literal["denoising", "span_corruption", "prefix"] = "denoising"
    order: Literal["shuffled", "documents", "sentences"] = "documents"
    permute: float = Field(default=1.0, ge=0, le=1)
    rotate: float = Field(default=0.0, ge=0, le=1)
    delete: float = Field(default=0.0, ge=0, lt=1)
    infill: float = Field(default=0.3, ge=0, lt=1)
    mask: float = Field(default=0.0, ge=0, le=1)
    mean_span: float = Field(default=3.0, ge=1)
    corrupt: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _are_its_own(self) -> Config:
        foreign = self.model_fields_set - {"name", "order"} - OWN[self.name]
        if foreign:
            own = ", ".join(sorted(OWN[self.name])) or "none"
            raise ValueError(f"{', '.join(sorted(foreign))} isn't a noise of {self.name}, which has {own}")
        if self.name == "denoising" and not any((self.permute, self.rotate, self.delete, self.infill, self.mask)):
            raise ValueError(
                "permute, rotate, delete, infill or mask has to be more than 0: there is no noise otherwise"
            )
        return self


class Pretext(BlockPretext):
    """Batches of one store for one run, and their loss; see ``_blocks.BlockPretext``.

    ``context`` is of the source, special tokens included. Raises ConfigError for a tokenizer without the mask token or with
    too few sentinels, DataError when there is too little text.
    """

    def __init__(
        self,
        store: MarkedStream,
        settings: Config,
        *,
        tokenizer: Tokenizer,
        seed: int,
        batch: int,
        micro: int | None,
        context: int,
    ) -> None:
        self.frame = Template.of_source(tokenizer).alone
        around = self.frame.special_count
        super().__init__(store, settings, around=around, seed=seed, batch=batch, micro=micro, context=context)
        self.names: tuple[str, ...] = (settings.name,)
        self.perplexity_of: str | None = settings.name
        self.vocab, self.end, self.mask_id = tokenizer.size, tokenizer.end_id, tokenizer.mask_id
        self.special = np.zeros(tokenizer.size, dtype=bool)
        self.special[list(tokenizer.special_ids)] = True
        self.start: tuple[int, ...] = () if self.end is None else (self.end,)  # until ``attach`` has the model's
        if settings.name == "denoising" and (settings.infill or settings.mask) and self.mask_id is None:
            raise ConfigError(
                "The tokenizer has no mask token: train one with tokenizer.mask=true (or of kind 'wordpiece'), or name it as "
                "mask_token in tokenizer_config.json."
            )
        self.sentinels = self._sentinels(tokenizer) if settings.name == "span_corruption" else np.zeros(0, np.int64)
        self.tokens = self._tokens()

    def terms(self, model: SourceTargetModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probability of the target tokens and their ends, in nats; there is no state."""
        (name,) = self.names
        hidden = model(batch.tokens, batch.source)  # type: ignore[operator]
        target = batch.targets[name]
        log_probs = model.target_log_probs(hidden.states, target.at, target.value)
        return {name: untold(log_probs, target.count)}, None

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """Take the ids that the model's targets begin with. The loss has no modules."""
        self.start = tuple(model.start)

    def check(self, model: SourceTargetModel) -> None:
        """Raise before training starts what would go wrong in it."""
        if model.reads not in READS:
            raise ConfigError(
                f"Denoising needs a family that reads a source and writes a target (transformer); this one reads {model.reads!r}."
            )
        if not model.start or self.end is None:
            raise ConfigError(
                "A target needs a token to begin with and one to end with: the tokenizer has none (eos_token)."
            )
        if model.source_context is not None and self.context > model.source_context:
            raise ConfigError(
                f"context is {self.context}, and the model reads sources of at most {model.source_context} tokens."
            )
        longest = len(model.start) + self._longest()
        if model.context is not None and longest > model.context:
            raise ConfigError(
                f"A target may have {longest} tokens and the model reads at most {model.context}: set a smaller context, or "
                "model.decoder.max."
            )
        source = getattr(model, "source_vocab", model.vocab)
        if self.vocab > min(model.vocab, source):
            raise DataError(
                f"The tokenizer has {self.vocab} tokens and the model a vocabulary of {min(model.vocab, source)}: they don't "
                "belong together."
            )

    def make(self, store: MarkedStream, found: Spans, share: slice, seed: int, *stream: int | str) -> Batch:
        """Noised rows as sources, and what is to be told of each."""
        sources, targets, one = [], [], found.take(share)
        first, (before, behind) = share.start or 0, (np.array(ids, dtype=np.int64) for ids in self.frame.specials)
        for place, (start, length) in enumerate(zip(one.starts, one.lengths, strict=True), first):
            at = np.arange(start, start + length) % len(store.tokens)
            opens = np.flatnonzero(store.marks[at] & SENTENCE)
            source, target = self.noised(generator(seed, *stream, place), store.tokens[at].astype(np.int64), opens)
            sources.append(np.concatenate([before, source, behind]))
            targets.append(np.array([*self.start, *target, self.end], dtype=np.int64))
        return _batch(sources, targets, len(self.start), self.names[0])

    def noised(self, draws: Draws, ids: Ints, opens: Ints) -> tuple[Ints, Ints]:
        """A row [n] with noise, and what is to be told, without special tokens around; sentences begin at ``opens``."""
        settings, count = self.settings, len(ids)
        if settings.name == "prefix":
            cut = int(draws.integers(1, max(2, count)))
            return ids[:cut], ids[cut:]
        if settings.name == "span_corruption":
            spans = noise.corruption(draws, count, settings.corrupt, settings.mean_span)
            sentinels = self.sentinels[: len(spans.begin) + 1]
            return spans.replaced(ids, sentinels[:-1]), spans.told(ids, sentinels)
        shown = ids
        if draws.random() < settings.permute:
            shown = noise.permutation(draws, shown, np.union1d(0, opens))
        if draws.random() < settings.rotate:
            shown = noise.rotation(draws, shown)
        if settings.delete:
            shown = noise.deletion(draws, shown, ~self.special[shown], settings.delete)
        if settings.infill:
            spans = noise.infilling(draws, len(shown), settings.infill, settings.mean_span)
            shown = spans.replaced(shown, np.full(len(spans.begin), self.mask_id, dtype=np.int64))
        if settings.mask:
            assert self.mask_id is not None
            shown = noise.masking(draws, shown, ~self.special[shown], settings.mask, self.mask_id)
        return shown, ids

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sequence of batches; a resumed run must have the same."""
        return super().fingerprint() | {"start": list(self.start)}

    def _sentinels(self, tokenizer: Tokenizer) -> Ints:
        needed = 1 + max(self._spans(size)[1] for size in self._sizes())
        found = [tokenizer.id(SENTINEL.format(number)) for number in range(needed)]
        there = [index for index in found if index is not None]
        if None in found[:1]:
            raise ConfigError(
                f"The tokenizer has no sentinels ({SENTINEL.format(0)}, ...), which stand for the missing spans: train one with "
                f"tokenizer.sentinels={needed} or more."
            )
        if len(there) < needed:
            raise ConfigError(
                f"The tokenizer has {found.index(None)} sentinels ({SENTINEL.format(0)}, ...), and rows of {self.body} tokens need "
                f"{needed}: train one with tokenizer.sentinels={needed}, or set a smaller context, a smaller pretext.corrupt "
                "or a larger pretext.mean_span."
            )
        return np.array(there, dtype=np.int64)

    def _sizes(self) -> range:
        """Lengths that a row may have."""
        return range(1, self.body + 1)

    def _spans(self, size: int) -> tuple[int, int]:
        return noise.span_counts(size, self.settings.corrupt, self.settings.mean_span)

    def _longest(self) -> int:
        """Tokens of the longest target, its end left out."""
        if self.settings.name == "span_corruption":
            return max(sum(self._spans(size)) + 1 for size in self._sizes())
        return self.body if self.settings.name == "denoising" else max(1, self.body - 1)

    def _tokens(self) -> int:
        """What an epoch reads of sources and targets, as expected of noise that is drawn."""
        own, text = self.settings, self.tokens - self.count * self.around
        if own.name == "span_corruption":
            told = text * (1 + 2 * own.corrupt / own.mean_span) + self.count
        elif own.name == "prefix":
            told = text
        else:
            told = text * (1 + (1 - own.delete) * (1 - own.infill + own.infill / own.mean_span))
        return round(told) + self.count * (self.around + len(self.start))


def _batch(sources: Sequence[Ints], targets: Sequence[Ints], start: int, name: str) -> Batch:
    """Targets go from their first ``start`` ids to their end: all but the last are read, all but those are told."""
    at, place = [], 0
    for target in targets:
        at.append(np.arange(place + start - 1, place + len(target) - 1))
        place += len(target) - 1
    rows = torch.from_numpy(np.concatenate(at))
    value = torch.from_numpy(np.concatenate([target[start:] for target in targets]))
    told = Target(rows, value, len(value))
    return Batch(_flat([target[:-1] for target in targets]), {name: told}, source=_flat(sources))


def _flat(sequences: Sequence[Ints]) -> Tokens:
    lengths = [len(sequence) for sequence in sequences]
    positions = np.fromiter(chain.from_iterable(map(range, lengths)), np.int64, sum(lengths))
    ids = torch.from_numpy(np.concatenate(sequences))
    return Tokens(ids, Fences.of(lengths), torch.from_numpy(positions))
