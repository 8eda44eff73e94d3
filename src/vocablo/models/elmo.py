"""ELMo: a language model in both directions over words read letter by letter (Peters et al. 2018).

    x_t = CharacterCNN(letters of w_t)                                       shared by both directions
    forward:  h_t = LSTM(x_1 .. x_t)      log p(w_(t+1) | w_1 .. w_t)        = log softmax(W h_t + b)
    backward: g_t = LSTM(x_T .. x_t)      log p(w_(t-1) | w_t .. w_T)        = log softmax(W g_t + b)

It is trained on the sum over t of log p(w_t | w_<t) + log p(w_t | w_>t); W and b are shared as well. Above the first layer of
each direction, a layer's input is added to its output. What the model knows of a word in its sentence is one vector of
each layer, [h; g]; layer 0 is [x; x].

The published model has 4096 cells, whose outputs are projected to 512 numbers and clipped (``cells``, ``clip``; ``nn/projected.py``).
Without ``cells`` the layers are torch's LSTMs, which are faster where time isn't to be had in parallel. Words are told from
``head.words`` most frequent ones, the first of the vocabulary; another one counts as ``unknown``, but is read by its letters.
Departures from the paper: the softmax is always taken over all those words.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn.character_cnn import Activation, CharacterCNN
from vocablo.nn.dropout import Dropout
from vocablo.nn.head import target_log_probs
from vocablo.nn.projected import ProjectedLSTM
from vocablo.nn.recurrent import RecurrentStack, RecurrentState
from vocablo.text.characters import MoreWords, Scheme
from vocablo.text.tokenizer import Tokenizer

FAMILIES = {"elmo": "LSTM language model in both directions over words read by their letters (Peters et al. 2018)"}
FINETUNE = {"tokenizer": "word"}  # of fresh weights for a task, where nothing else is asked for
SIZES = {
    "tiny": {
        "letters": {"embed": 8, "filters": [[1, 8], [2, 16], [3, 32], [4, 32]], "highway": 1},
        "stack": {"width": 64},
        "head": {"words": 8000},
    },
    "mini": {
        "letters": {"embed": 16, "filters": [[1, 16], [2, 32], [3, 64], [4, 64]], "highway": 1},
        "stack": {"width": 128},
        "head": {"words": 16000},
    },
    "small": {
        "letters": {"embed": 16, "filters": [[1, 32], [2, 32], [3, 64], [4, 128]], "highway": 1},
        "stack": {"width": 256},
        "head": {"words": 20000},
    },
    "medium": {
        "letters": {"embed": 16, "filters": [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256]], "highway": 1},
        "stack": {"width": 256, "cells": 1024, "clip": 3.0},
        "head": {"words": 50000},
    },
    "base": {
        "letters": {"embed": 16, "filters": [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512]], "highway": 1},
        "stack": {"width": 256, "cells": 2048, "clip": 3.0},
        "head": {"words": 50000},
    },
    "large": {  # as published, but for the number of words
        "letters": {
            "embed": 16,
            "filters": [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]],
            "highway": 2,
        },
        "stack": {"width": 512, "cells": 4096, "clip": 3.0},
        "head": {"words": 100000},
    },
}
Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")


class Embed(Settings):
    """The vocabulary: the words whose letters the model keeps. Others are read when their letters are given."""

    vocab: int = Field(ge=1)


class Letters(Settings):
    """How a word is read: ``width`` characters (``text/characters.py``), vectors of ``embed`` numbers, filters (width, count)."""

    width: int = Field(default=50, ge=3)
    embed: int = Field(default=16, ge=1)
    filters: tuple[tuple[int, int], ...] = ((1, 32), (2, 32), (3, 64), (4, 128))
    highway: int = Field(default=1, ge=0)
    activation: Activation = "relu"

    @model_validator(mode="after")
    def _fits(self) -> Letters:
        if not self.filters or any(width < 1 or count < 1 for width, count in self.filters):
            raise ValueError("filters are one or more pairs of a width and a number, both 1 or more")
        if (widest := max(width for width, _ in self.filters)) > self.width:
            raise ValueError(f"a filter is {widest} characters wide and a word has {self.width}")
        return self


class Stack(Settings):
    """The layers of each direction: ``width`` numbers go out of each (D), of ``cells`` cells; None: of ``width`` cells.

    ``skip`` adds a layer's input to its output, above the first one. ``clip`` bounds cells and outputs.
    """

    width: int = Field(default=256, ge=1)
    layers: int = Field(default=2, ge=1)
    cells: int | None = Field(default=None, ge=1)
    clip: float | None = Field(default=None, gt=0)
    skip: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Stack:
        if self.clip is not None and self.cells is None:
            raise ValueError("clip is of layers with cells of their own: set stack.cells as well")
        return self


class Head(Settings):
    """The softmax: over the first ``words`` of the vocabulary; None: over all."""

    words: int | None = Field(default=None, ge=2)


class Config(Settings):
    """All that defines the model. ``unknown`` is the token that stands for words which aren't told.

    ``head`` None: there is no output layer (a model that is only asked for its states).
    """

    embed: Embed
    letters: Letters = Letters()
    stack: Stack = Stack()
    head: Head | None = Head()
    unknown: int | None = None

    @property
    def words(self) -> int:
        """How many words are told."""
        asked = None if self.head is None else self.head.words
        return self.embed.vocab if asked is None else min(asked, self.embed.vocab)

    @property
    def width(self) -> int:
        """Of a state: both directions."""
        return 2 * self.stack.width


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration at a size; ``changes`` (nested, as in a recipe's ``model``) win. ``context`` is no limit here."""
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    usual: dict[str, Any] = copy.deepcopy(SIZES[size])
    if vocab <= usual["head"]["words"]:
        usual["head"] = {}
    layers = [("size", usual), ("given", {"embed": {"vocab": vocab}}), ("model", changes)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "elmo"


def build(config: Config) -> Elmo:
    """A model with fresh weights from torch's current random state, which waits to be told its words' letters (``spell``)."""
    return Elmo(config)


@dataclass(frozen=True)
class TwoWayState:
    """Where each layer of each direction ended. It goes on with other text, as their code does from batch to batch."""

    forward: tuple[RecurrentState, ...]
    backward: tuple[RecurrentState, ...]


class Elmo(nn.Module):
    """ELMo behind ``contract.TwoWayModel``."""

    reads = "two_way"
    carries = False  # a backward state doesn't continue what was cut off before it
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        letters, stack = config.letters, config.stack
        self.vocab, self.words, self.depth = config.embed.vocab, config.words, stack.layers
        self.scheme = Scheme(letters.width, marked=True)
        self.more = MoreWords(self.scheme, self.vocab)  # words beyond the vocabulary; they aren't saved
        # Until it is told, a word is spelled by its number.
        numbers = [str(index) for index in range(self.vocab)]
        self.register_buffer("spellings", torch.from_numpy(self.scheme.rows(numbers)))
        self.reader = CharacterCNN(
            self.scheme.size, letters.embed, letters.filters, letters.highway, letters.activation, stack.width
        )
        self.forward_layers, self.backward_layers = (
            nn.ModuleList(_layer(stack) for _ in range(stack.layers)) for _ in DIRECTIONS
        )
        self.head = None if config.head is None else nn.Linear(stack.width, self.words)
        self.drop = Dropout(stack.dropout)
        if self.head is not None:
            nn.init.zeros_(self.head.bias)

    def spell(self, tokenizer: Tokenizer) -> None:
        """Tell the model the letters of its words."""
        table = torch.from_numpy(self.scheme.table(tokenizer)).to(self.spellings.device)
        self.spellings[: len(table)] = table

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: TwoWayState | None = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, 2 D]: what was read up to it and with it, from the left and from the right.

        ``tokens.chars`` has the letters of each word; without, they are those that the model was told of its ids, or of
        ``more`` words. ``keep`` names layers: 0 is [x; x], l the states of layer l. ``state`` is one that was returned.
        """
        x = self._read(tokens)
        back = reversal(tokens.fences, x.device)
        before = (None, None) if state is None else (state.forward, state.backward)
        seen, after = self._run(self.forward_layers, x, tokens.fences, before[0])
        turned, behind = self._run(self.backward_layers, x.index_select(0, back), tokens.fences, before[1])
        at = {self.depth, *keep}
        joined = {layer: torch.cat([seen[layer], turned[layer].index_select(0, back)], dim=1) for layer in at}
        layers = tuple(joined[layer] for layer in keep)
        return Hidden(self.drop(joined[self.depth]), layers=layers, state=TwoWayState(after, behind))

    def _read(self, tokens: Tokens) -> Float[Tensor, "N D"]:
        """The words' vectors; each different word is read once."""
        if tokens.chars is None:
            ids, which = torch.unique(tokens.ids, return_inverse=True)
            rows = self.spellings.index_select(0, ids.clamp(max=self.vocab - 1))
            if bool((beyond := ids >= self.vocab).any()):
                rows[beyond] = torch.from_numpy(self.more.rows(ids[beyond].tolist())).to(rows.device)
        else:
            rows, which = torch.unique(tokens.chars, dim=0, return_inverse=True)
        return self.reader(rows.long()).index_select(0, which)

    def _run(
        self, layers: nn.ModuleList, x: Tensor, fences: Fences, before: tuple[RecurrentState, ...] | None
    ) -> tuple[list[Tensor], tuple[RecurrentState, ...]]:
        """One direction: the words' vectors and the outputs of every layer, and where each ended."""
        seen, after = [x], []
        for number, layer in enumerate(layers):
            read = self.drop(x)
            x, end = layer(read, fences, None if before is None else before[number])
            if number and self.config.stack.skip:
                x = x + read
            seen.append(x)
            after.append(end)
        return seen, tuple(after)

    def logits(self, states: Float[Tensor, "M E"], direction: Direction = "forward") -> Float[Tensor, "M V"]:
        """Scores of the word after each state (before it, backward), before the softmax; V are the words that are told."""
        return self._head()(self._half(states, direction))

    def target_log_probs(
        self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"], direction: Direction = "forward"
    ) -> Float[Tensor, "M"]:
        """log p(ids[m] | what states[at[m]] has read in a direction) in nats; a word that isn't told counts as unknown."""
        head = self._head()
        return target_log_probs(self._half(states, direction), at, self.told(ids), head.weight, head.bias)

    def told(self, ids: Int[Tensor, "M"]) -> Int[Tensor, "M"]:
        """The ids with ``unknown`` in the place of words that aren't told."""
        if self.config.unknown is None:
            return ids
        return ids.masked_fill(ids >= self.words, self.config.unknown)

    def trimmed(self, pooler: bool = False) -> Elmo:
        """A copy without the output layer: what is asked for states alone. There is no pooler."""
        made = build(self.config.model_copy(update={"head": None}))
        made.load_state_dict({name: value for name, value in self.state_dict().items() if not name.startswith("head.")})
        made.more = self.more
        return made

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight that is multiplied, as often as it is; each word read anew."""
        letters = self.config.letters
        vectors = self.reader.characters.weight.numel()
        again = sum(letters.embed * width * count * (letters.width - width) for width, count in letters.filters)
        head = 0 if self.head is None else self.head.weight.numel()  # both directions use it
        return 6 * (sum(parameter.numel() for parameter in self.parameters()) - vectors + again + head)

    def _half(self, states: Tensor, direction: Direction) -> Tensor:
        if direction not in DIRECTIONS:
            raise ConfigError(f"There is no direction {direction!r}{nearest(direction, DIRECTIONS)}")
        half = states.shape[1] // 2
        return states[:, :half] if direction == "forward" else states[:, half:]

    def _head(self) -> nn.Linear:
        if self.head is None:
            raise ConfigError("This model has no output layer over words, so it tells none: ask for its states.")
        return self.head


def _layer(stack: Stack) -> nn.Module:
    if stack.cells is None:
        return RecurrentStack("lstm", stack.width, stack.width, 1, 0.0)
    return ProjectedLSTM(stack.width, stack.cells, stack.width, stack.clip)


def reversal(fences: Fences, device: torch.device | str) -> Int[Tensor, "N"]:
    """For every place of a flat batch, its mirror image within its sequence. Twice reversed is as before."""
    lengths = torch.tensor(fences.lengths, dtype=torch.long)
    starts = torch.tensor(fences.starts()[:-1], dtype=torch.long)
    ends = torch.repeat_interleave(2 * starts + lengths - 1, lengths)
    return (ends - torch.arange(fences.total)).to(device)
