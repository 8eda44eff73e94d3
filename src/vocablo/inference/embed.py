"""Vectors of texts from a model that reads both ways: the states of chosen layers, pooled over the tokens of each text.

    cls      the state of the first token                       mean   the mean over all tokens, special ones too
    max      the greatest value of each component               pooler tanh(W h_cls + b), BERT's own

Several layers are pooled one by one and joined. A text over the limit is an error, unless ``truncate`` cuts it (which is
counted) or ``window`` reads it in parts of about equal length, one behind the other; its vector is then the mean of theirs,
weighted by their tokens (the maximum of theirs, for ``max``). ``normalize`` comes last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError
from vocablo.contract import BothModel, Tokens
from vocablo.data.order import by_length
from vocablo.inference.framing import Framing, flat_frames
from vocablo.inference.reading import Ints, asking, device_of
from vocablo.text.tokenizer import Tokenizer

Vectors = NDArray[np.float32]


class EmbedSettings(Settings):
    """How a text becomes a vector; see the module's docstring. ``layers``: 0 the embeddings, l the output of layer l, -1 the last."""

    pooling: Literal["cls", "mean", "max", "pooler"] = "mean"
    layers: tuple[int, ...] = (-1,)
    normalize: bool = False
    window: bool = False
    truncate: bool = False

    @model_validator(mode="after")
    def _fits(self) -> EmbedSettings:
        if not self.layers:
            raise ValueError("layers is empty: name one or several, as in --layers -1,-2")
        if self.window and self.truncate:
            raise ValueError("window and truncate exclude each other: a long text is read in parts, or cut")
        if self.pooling == "pooler" and self.layers != (-1,):
            raise ValueError("the pooler reads the last layer only: leave layers out, or choose another pooling")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The vectors [B, W] of texts, float32, and how they were made.

    ``truncated`` counts texts that were cut, ``windowed`` those that were read in several parts.
    """

    texts: tuple[str, ...]
    vectors: Vectors
    pooling: str
    layers: tuple[int, ...]
    normalize: bool
    truncated: int
    windowed: int

    @property
    def width(self) -> int:
        """W."""
        return int(self.vectors.shape[1])


class Embedder:
    """Makes vectors of texts with fixed settings. ``limit``: the longest sequence to read, if less than the model's context."""

    def __init__(
        self, model: BothModel, tokenizer: Tokenizer, settings: EmbedSettings, limit: int | None = None
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.framing = Framing(model, tokenizer, limit)
        self.layers = chosen_layers(model, settings.layers)
        if settings.pooling == "pooler" and not getattr(_config(model), "pooler", False):
            raise ConfigError("This model has no pooler: choose --pooling cls, mean or max.")
        self.tokens = self.truncated = self.windowed = 0  # of all texts so far

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors [B, W] of texts."""
        parts: list[Ints] = []
        owners: list[int] = []
        for number, (text, ids) in enumerate(zip(texts, self.tokenizer.encode_batch(texts), strict=True)):
            for part in self._parts(text, ids):
                parts.append(self.framing.frame(part))
                owners.append(number)
        self.tokens += sum(map(len, parts))
        return self._joined(self._read(parts), parts, owners)

    def _parts(self, text: str, ids: list[int]) -> list[list[int]]:
        room = self.framing.room
        if room is None or len(ids) <= room:
            return [ids]
        if self.settings.truncate:
            self.truncated += 1
            return [ids[:room]]
        if not self.settings.window:
            way = "pass --window (window=True) for the mean of its parts, or --truncate (truncate=True) to cut it"
            self.framing.require(ids, text, way)
        self.windowed += 1
        cuts = np.linspace(0, len(ids), -(-len(ids) // room) + 1).round().astype(int).tolist()
        return [ids[begin:end] for begin, end in itertools.pairwise(cuts)]

    def _read(self, sequences: Sequence[Ints]) -> Tensor:
        """One vector for each sequence."""
        places, found = [], []
        device = device_of(self.model)
        with asking(self.model):
            for group in by_length([len(sequence) for sequence in sequences]):
                tokens = flat_frames([sequences[one] for one in group], device)
                found.append(self._pooled(tokens).float().cpu())
                places += group
        order = torch.empty(len(places), dtype=torch.long)
        order[torch.tensor(places)] = torch.arange(len(places))
        return torch.cat(found).index_select(0, order)

    def _pooled(self, tokens: Tokens) -> Float[Tensor, "B W"]:
        if self.settings.pooling == "pooler":
            pooled = self.model.forward(tokens).pooled
            assert pooled is not None
            return pooled
        layers = states_at(self.model, tokens, self.layers)
        return torch.cat([_pool(states, tokens.fences.lengths, self.settings.pooling) for states in layers], 1)

    def _joined(self, found: Tensor, parts: Sequence[Ints], owners: Sequence[int]) -> Vectors:
        """The vectors of texts from those of their parts."""
        count = owners[-1] + 1 if owners else 0
        if count < len(owners):
            owner = torch.tensor(owners)
            if self.settings.pooling == "max":
                whole = torch.full((count, found.shape[1]), -torch.inf)
                found = whole.scatter_reduce_(0, owner[:, None].expand_as(found), found, "amax")
            else:
                weight = torch.tensor([float(len(part)) for part in parts])
                total = torch.zeros(count).index_add_(0, owner, weight)
                found = torch.zeros(count, found.shape[1]).index_add_(0, owner, found * weight[:, None])
                found /= total[:, None]
        if self.settings.normalize:
            found = torch.nn.functional.normalize(found, dim=1)
        return found.numpy()


def _pool(states: Float[Tensor, "N D"], lengths: tuple[int, ...], pooling: str) -> Float[Tensor, "B D"]:
    """One vector of each sequence; runs of equal length are pooled at once, in float32."""
    parts, start = [], 0
    for length, run in itertools.groupby(lengths):
        count = len(list(run))
        block = states[start : start + count * length].view(count, length, -1)
        start += count * length
        if pooling == "cls":
            parts.append(block[:, 0].float())
        else:
            parts.append(block.float().mean(1) if pooling == "mean" else block.float().amax(1))
    return torch.cat(parts)


def states_at(model: BothModel, tokens: Tokens, layers: Sequence[int]) -> list[Float[Tensor, "N D"]]:
    """The states of chosen layers; those of the last one are the model's own, after its final norm if it has one."""
    depth = _config(model).stack.layers
    hidden = model.forward(tokens, keep=tuple(layer for layer in layers if layer < depth))
    others = iter(hidden.layers)
    return [hidden.states if layer == depth else next(others) for layer in layers]


def chosen_layers(model: BothModel, given: Sequence[int]) -> tuple[int, ...]:
    """Layers counted from 0 (the embeddings); negative ones from the end. Raises ConfigError for one that isn't there."""
    depth = _config(model).stack.layers
    found = tuple(depth + 1 + layer if layer < 0 else layer for layer in given)
    for asked, layer in zip(given, found, strict=True):
        if not 0 <= layer <= depth:
            raise ConfigError(
                f"There is no layer {asked}: this model has 0 (its embeddings) to {depth}, or -1 (the last) to {-depth - 1}."
            )
    return found


def _config(model: Any) -> Any:
    return model.config


def embed(
    model: BothModel, tokenizer: Tokenizer, texts: Sequence[str], settings: EmbedSettings, limit: int | None = None
) -> Embeddings:
    """The vectors of some texts. Raises DataError for a text over the limit, unless the settings say what to do."""
    embedder = Embedder(model, tokenizer, settings, limit)
    vectors = embedder.embed(texts)
    how = (settings.pooling, embedder.layers, settings.normalize)
    return Embeddings(tuple(texts), vectors, *how, embedder.truncated, embedder.windowed)
