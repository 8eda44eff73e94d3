"""How a model reads the examples of a task: framed, cut where they are too long, and summed up in one vector or many.

A task's own module is a small head on top; dropout stands before it, as in BERT. With ``features`` the model is frozen and
a BiLSTM learns between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Batch, Fences, Hidden, Target, Term, Tokens
from vocablo.nn.dropout import dropout
from vocablo.nn.features import Features, layers_of
from vocablo.nn.pooling import LEARNT, learnt, pool
from vocablo.tasks._fitting import template
from vocablo.text.characters import OpenTokenizer
from vocablo.text.tokenizer import Tokenizer

Heads = Mapping[str, nn.Module] | nn.ModuleDict
Framed = tuple[Sequence[int], Sequence[int]]  # ids and segments of one sequence
Located = tuple[
    Sequence[int], NDArray[np.int64], Sequence[bool]
]  # of one sequence: ids, spans [n, 2] of text, which are known
LANGUAGE, POOLING = "language", "pooling"


class ReadSettings(Settings):
    """How examples are read.

    ``context``: tokens of a sequence at most, special ones included; None: all that the model reads. ``long``: of longer
    texts the end is cut, and how many is told, or they are an error. ``pooling`` is what stands for a whole sequence: the
    pooler (a fresh one where an encoder Transformer has none), the first or the last token's state (of a BiLSTM where each
    direction ends), the mean, the max, or a mean weighted by feed-forward attention or by HAN's (``nn/pooling.py``). auto:
    the pooler, the mean of a recurrent network that reads both ways, the last token of a model that reads from the left,
    where each direction of ``features`` ends. ``dropout`` None is the model's own.
    ``language`` weighs the auxiliary loss of telling the next token (Radford et al. 2018, eq. 5; they take 0.5).
    """

    context: int | None = Field(default=None, ge=3)
    long: Literal["cut", "error"] = "cut"
    pooling: Literal["auto", "pooler", "first", "last", "mean", "max", "attention", "han"] = "auto"
    dropout: float | None = Field(default=None, ge=0, lt=1)
    language: float = Field(default=0.0, ge=0)
    freeze: bool = False
    features: (
        Literal["embeddings", "last", "second-to-last", "weighted-last-4", "concat-last-4", "weighted-all"] | None
    ) = None
    lstm_width: int | None = Field(default=None, ge=1)  # each way; None: the model's width
    lstm_layers: int = Field(default=2, ge=1)

    def pooler(self, reads: str) -> bool:
        """Whether a whole sequence is told from an encoder's pooler."""
        return reads == "both" and self.features is None and self.pooling in ("auto", "pooler")


class Reader:
    """Reads for one task, with a model and tokenizer as ``_fitting.fitted`` gives them.

    Raises ConfigError for settings that don't fit the model. ``_readers.reader_for`` finds the reader of a model.
    """

    attends: bool  # whether ``read`` gives weights of what its vectors were made of; then ``located`` says of what text
    most: int | None = None  # tokens of examples that are learnt from at once, unless one has more; None: any number

    def __init__(self, model: Any, tokenizer: Tokenizer, settings: ReadSettings) -> None:
        self.tokenizer, self.settings, self.reads = OpenTokenizer.of(tokenizer, model), settings, model.reads
        self.template = template(tokenizer, model)
        self.context: int | None = _limit(model, settings)
        self.pooling = _pooling(model, settings)
        self.attends = self.pooling in LEARNT
        config = model.config
        self.p = config.stack.dropout if settings.dropout is None else settings.dropout
        self.model_width: int = getattr(config, "width", config.stack.width)
        self.input_width: int = getattr(config, "input_width", self.model_width)  # of what its first layer reads
        self.depth: int | None = getattr(model, "depth", None)
        self.frozen = settings.freeze or settings.features is not None
        self.vocab: int = model.vocab
        known = getattr(config.embed, "segments", 0)
        self.segments: int | None = known or None  # None: there is no table to fall out of
        self.names: tuple[str, ...] = (LANGUAGE,) if settings.language else ()
        if settings.language and (self.reads != "left" or self.frozen):
            raise ConfigError(
                "The auxiliary loss is of a model that reads from the left and isn't frozen: leave language out."
            )

    @property
    def width(self) -> int:
        """Of the states that a head reads."""
        if self.settings.features is None:
            return self.model_width
        return 2 * (self.settings.lstm_width or self.model_width)

    def heads(self, *, whole: bool = True) -> dict[str, nn.Module]:
        """Fresh modules between the model and a task's own, from torch's current random state: a BiLSTM, a pooling, or none.

        ``whole``: the task reads whole sequences. Raises ConfigError for settings that the model or the task has no use for.
        """
        if not whole and self.settings.pooling != "auto":
            raise ConfigError(
                "read.pooling makes one vector of a whole text, and this task tells of its tokens: leave it out."
            )
        made = self._features()
        if whole and self.pooling in LEARNT:
            made[POOLING] = learnt(self.pooling, self.width)
        return made

    def _features(self) -> dict[str, nn.Module]:
        choice, settings = self.settings.features, self.settings
        if choice is None:
            return {}
        if self.depth is None and choice not in ("embeddings", "last"):
            raise ConfigError(
                f"The features {choice!r} are of a Transformer or an ELMo: this model has embeddings and last."
            )
        layers = layers_of(choice, self.depth or 1, bottom=0 if self.reads == "two_way" else 1)
        hidden = settings.lstm_width or self.model_width
        width = self.input_width if choice == "embeddings" else self.model_width
        return {"features": Features(layers, choice == "concat-last-4", width, hidden, settings.lstm_layers)}

    def read(self, model: Any, heads: Heads, tokens: Tokens, groups: Fences | None = None) -> Hidden:
        """States of all tokens, and one of every sequence as ``pooled``.

        ``groups`` say which sequences make one example; only those who read documents ask.
        """
        if self.frozen and model.training:
            model.eval()
        if "features" in heads:
            features: Any = heads["features"]
            kept = [layer for layer in features.keep if layer != (self.depth or 1)]
            hidden = model(tokens, keep=tuple(kept))
            layers = [*hidden.layers, *([hidden.states] if len(kept) < len(features.keep) else [])]
            states, ends = features(layers, tokens.fences, self.p if torch.is_grad_enabled() else 0.0)
            hidden = Hidden(states, ends)
        else:
            hidden = model(tokens)
        return self._whole(heads, hidden, tokens.fences)

    def dropped(self, states: Tensor) -> Tensor:
        """What a head reads: with dropout while gradients are made."""
        return dropout(states, self.p, torch.is_grad_enabled())

    def texts(self, texts: Sequence[str], names: Sequence[str]) -> tuple[list[Framed], list[int], list[bool]]:
        """The sequences of all texts, how many each text has, and whether it was cut; ``names`` are for errors."""
        made = [self.single(ids, name) for ids, name in zip(self.tokenizer.encode_batch(texts), names, strict=True)]
        return [framed for framed, _ in made], [1] * len(made), [cut for _, cut in made]

    def located(self, text: str) -> list[Located]:
        """The sequences of a text as ``texts`` makes them, with the text that each token stands for ((-1, -1): none)."""
        encoding = self.tokenizer.encode(text)
        (ids, _), _ = self.single(encoding.ids, "the text")
        before, own = len(self.template.alone.specials[0]), len(ids) - self.template.special_count(False)
        spans = np.full((len(ids), 2), -1, dtype=np.int64)
        spans[before : before + own] = encoding.offsets[:own]
        return [(ids, spans, [index != self.tokenizer.unk_id for index in ids])]

    def single(self, ids: Sequence[int], where: str) -> tuple[Framed, bool]:
        """One text framed, and whether it was cut. Raises DataError when nothing of it is left to read."""
        room = self.room(pair=False)
        if not len(ids) and not self.template.alone.special_count:
            raise DataError(f"{where} has no tokens: leave it out.")
        cut = room is not None and len(ids) > room
        if cut:
            self._refuse(where, len(ids), room)
        return self.template.alone(ids[:room] if cut else ids), cut

    def pair(self, a: Sequence[int], b: Sequence[int], where: str) -> tuple[Framed, bool]:
        """Two texts framed together, and whether one was cut: the longer one first, as BERT does."""
        room = self.room(pair=True)
        cut = room is not None and len(a) + len(b) > room
        if cut and room is not None:
            self._refuse(where, len(a) + len(b), room)
            half = room // 2
            first = min(len(a), max(room - half, room - len(b)))
            a, b = a[:first], b[: room - first]
        return self.template.two(a, b), cut

    def room(self, pair: bool) -> int | None:
        """How many tokens of its own a sequence may have; None: any number."""
        return None if self.context is None else self.context - self.template.special_count(pair)

    def check(self, pair: bool) -> None:
        """Raise ConfigError when the model can't read one text, or a pair."""
        frame = self.template.two if pair else self.template.alone
        if self.segments is not None and frame.segment_count > self.segments:
            raise ConfigError(
                f"A pair has {frame.segment_count} segments and this model knows {self.segments}: it can't tell two texts apart."
            )
        if self.context is not None and self.context <= frame.special_count + 1:
            raise ConfigError(f"A context of {self.context} has no room beside {frame.special_count} special tokens.")
        if self.tokenizer.size > self.vocab:
            raise ConfigError(
                f"The tokenizer has {self.tokenizer.size} tokens and the model {self.vocab}: they don't belong together."
            )

    def batch(self, tokens: Tokens, targets: dict[str, Target], groups: Fences | None = None) -> Batch:
        """A batch with the targets of the auxiliary loss put in, where there is one."""
        if self.settings.language:
            last = torch.zeros(tokens.fences.total, dtype=torch.bool)
            last[tokens.fences.last()] = True
            at = (~last).nonzero().squeeze(1)
            targets = {**targets, LANGUAGE: Target(at, tokens.ids.index_select(0, at + 1), len(at))}
        return Batch(tokens, targets, groups=groups)

    def extra(self, model: Any, hidden: Hidden, batch: Batch) -> dict[str, Term]:
        """The auxiliary loss, where there is one."""
        if LANGUAGE not in batch.targets:
            return {}
        target = batch.targets[LANGUAGE]
        total = -model.target_log_probs(hidden.states, target.at, target.value).float().sum()
        return {LANGUAGE: Term(total, target.count, weight=self.settings.language)}

    def _whole(self, heads: Heads, hidden: Hidden, fences: Fences) -> Hidden:
        """The states with one of every sequence, and what each token weighs in it, where that is learnt."""
        states = hidden.states
        if self.pooling == "pooler":
            return Hidden(states, hidden.pooled)
        if self.pooling in LEARNT:
            pooled, weights = heads[POOLING](states, fences) if POOLING in heads else (None, None)
            return Hidden(states, pooled, weights=() if weights is None else (weights,))
        return Hidden(states, pool(states, fences, self.pooling))

    def _refuse(self, where: str, tokens: int, room: int | None) -> None:
        if self.settings.long == "error":
            raise DataError(
                f"{where} has {tokens:,} tokens and {room} fit: shorten it, raise read.context, or cut it (read.long=cut)."
            )


def linear(width: int, out: int, std: float = 0.02) -> nn.Linear:
    """A fresh head, as BERT and GPT-1 start theirs."""
    head = nn.Linear(width, out)
    nn.init.normal_(head.weight, std=std)
    nn.init.zeros_(head.bias)
    return head


def count_cut(cut: Iterable[bool], where: str, what: str = "examples") -> str | None:
    """What to tell about texts that were cut; None when none was."""
    number = sum(map(bool, cut))
    return f"{where}: the ends of {number:,} {what} that are too long for the model were cut off" if number else None


def _limit(model: Any, settings: ReadSettings) -> int | None:
    if settings.context is None or model.context is None:
        return settings.context or model.context
    if settings.context > model.context:
        raise ConfigError(f"read.context is {settings.context}, and the model reads at most {model.context} tokens.")
    return settings.context


def _pooling(model: Any, settings: ReadSettings) -> str:
    """One of the kinds of ``nn/pooling.py``, or the model's own (``pooler``; of features, where each direction ends)."""
    pooler = hasattr(model.config, "pooler") and model.reads == "both"
    if settings.pooling == "pooler" and (not pooler or settings.features is not None):
        what = "Features have" if pooler else "This model has"
        raise ConfigError(f"{what} no pooler: take read.pooling last, first, mean, max, attention or han.")
    ends = settings.features is not None or getattr(model.config.stack, "bidirectional", model.reads == "two_way")
    if settings.pooling == "auto":
        return "pooler" if pooler or settings.features is not None else "mean" if ends else "last"
    return "ends" if ends and settings.pooling == "last" else settings.pooling
