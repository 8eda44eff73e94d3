"""The trunk of a Transformer, which all its shapes share: embeddings and a pile of layers, and how their weights start.

``models/transformer.py`` has the equations, and puts an output on the trunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.nn import positions
from vocablo.nn.cache import KeyValueCache
from vocablo.nn.dropout import Dropout
from vocablo.nn.embeddings import Embed, Segments
from vocablo.nn.layers import AttentionSettings, FeedForwardSettings, Layer, Memory, Norm, Place, Stack, normalisation
from vocablo.nn.output import OutputLayer
from vocablo.nn.positions import Position


class Init(Settings):
    """The start: N(0, ``std``) for weights; ``residual`` divides those that end a residual branch by sqrt(2 L).

    ``xavier`` is the original Transformer's: matrices uniform within sqrt(6 / (in + out)), tables N(0, 1 / width).
    """

    kind: Literal["normal", "xavier"] = "normal"
    std: float = Field(default=0.02, gt=0)
    residual: bool = True


class TrunkSettings(Settings):
    """What a trunk is made of."""

    embed: Embed
    position: Position = Position()
    stack: Stack = Stack()
    attention: AttentionSettings = AttentionSettings()
    feed_forward: FeedForwardSettings = FeedForwardSettings()
    norm: Norm = Norm()
    init: Init = Init()


class Trunk(nn.Module):
    """Embeddings and a pile of layers. ``cross``: layers look at a source; ``table``: the trunk has its own token table."""

    carries = False
    reading = "text"  # what an error calls it

    def __init__(self, config: TrunkSettings, *, cross: bool = False, table: bool = True) -> None:
        super().__init__()
        self.config: Any = config  # of a whole model, with what stands on the trunk
        self.vocab, self.context = config.embed.vocab, config.position.max
        embed, stack, position = config.embed, config.stack, config.position
        width = embed.width or stack.width
        if table:
            self.tokens = nn.Embedding(self.vocab, width)
        self.scale = math.sqrt(width) if embed.scaled else None
        self.positions = positions.table(position, width)
        self.segments = Segments(embed.segments, width) if embed.segments else None
        self.embedding_norm = normalisation(width, config.norm) if config.norm.embedding else nn.Identity()
        self.tokens_normed = config.norm.before_positions
        self.drop = Dropout(embed.dropout)
        self.project = nn.Identity() if embed.width is None else nn.Linear(width, stack.width)
        parts = (stack, config.attention, config.feed_forward, config.norm, position)
        windows = cycle(config.attention.windows or (0,))
        self.layers = nn.ModuleList(
            Layer(*parts, next(windows), cross) for _ in range(1 if stack.shared else stack.layers)
        )
        self.depth, self.layer_drop = stack.layers, stack.layer_drop
        head_width = config.attention.head_width or stack.width // config.attention.heads
        self.rotary = positions.Rotary(position, head_width) if position.kind == "rotary" else None
        self.distances = None
        if position.buckets:
            self.distances = positions.Distances(position, config.attention.heads, stack.causal)
        self.final_norm = normalisation(stack.width, config.norm) if config.norm.final else nn.Identity()

    def embedded(
        self, tokens: Tokens, places: Int[Tensor, "N"], table: nn.Embedding | None = None
    ) -> Float[Tensor, "N D"]:
        """What the first layer reads; ``table`` is that of tokens where the trunk has none."""
        x = (self.tokens if table is None else table)(tokens.ids)
        if self.scale is not None:
            x = x * self.scale
        if self.tokens_normed:
            x = self.embedding_norm(x)
        if self.positions is not None:
            x = x + self.positions(places)
        if self.segments is not None:
            x = x + self.segments(tokens.segments)
        return self.project(self.drop(x if self.tokens_normed else self.embedding_norm(x)))

    def through(
        self, x: Float[Tensor, "N D"], mix: Callable[[int, Any, Tensor], Tensor], keep: tuple[int, ...] = ()
    ) -> tuple[Float[Tensor, "N D"], tuple[Tensor, ...]]:
        """The states after the last layer (and its norm), and the layers of ``keep``.

        ``mix(layer, attention, x)`` is how a layer mixes tokens: over a whole batch, or onto a cache.
        """
        kept = {0: x}
        for number in range(1, self.depth + 1):
            if not (self.training and self.layer_drop and float(torch.rand(())) < self.layer_drop):
                x = self.layers[(number - 1) % len(self.layers)](x, partial(mix, number - 1))
            if number in keep:
                kept[number] = x
        return self.final_norm(x), tuple(kept[number] for number in keep)

    def read(
        self,
        tokens: Tokens,
        keep: tuple[int, ...] = (),
        table: nn.Embedding | None = None,
        source: Memory | None = None,
    ) -> tuple[Float[Tensor, "N D"], tuple[Tensor, ...]]:
        """Whole sequences, through all layers."""
        longest = max(tokens.fences.lengths, default=0)
        self._check(longest)
        bias = None if self.distances is None else self.distances(longest)
        place = Place(tokens.fences, self._rotation(tokens.positions), bias, source)
        x = self.embedded(tokens, tokens.positions, table)
        return self.through(x, lambda _, attend, inner: attend(inner, place), keep)

    def read_on(
        self, tokens: Tokens, cache: KeyValueCache, places: Int[Tensor, "N"], table: nn.Embedding | None = None
    ) -> Float[Tensor, "N D"]:
        """More tokens of each sequence, at these positions, onto the cache."""
        fences = tokens.fences
        longest = max((old + new for old, new in zip(cache.lengths, fences.lengths, strict=True)), default=0)
        self._check(longest)
        bias = None if self.distances is None else self.distances(longest, min(cache.lengths, default=0))
        place = Place(fences, self._rotation(places), bias)
        mix = lambda layer, attend, x: attend.extend(x, place, cache, layer)  # noqa: E731
        states, _ = self.through(self.embedded(tokens, places, table), mix)
        cache.advance(fences)
        return states

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight that is multiplied, and the two products of attention, 12 T D a layer.

        An encoder's output layer and pooler are left out: they only see the few states that are asked for.
        """
        weights = sum(parameter.numel() for parameter in self.layers.parameters()) * self.depth // len(self.layers)
        for part in (self.embedding_norm, self.project, self.final_norm):
            weights += sum(parameter.numel() for parameter in part.parameters())
        attention = self.config.attention
        width = attention.heads * attention.head_width if attention.head_width else self.config.stack.width
        return 6 * weights + 12 * self.depth * width * context

    def _rotation(self, places: Int[Tensor, "N"]) -> positions.Rotation:
        return None if self.rotary is None else self.rotary(places)

    def _check(self, length: int) -> None:
        if length > self.context:
            raise ConfigError(
                f"The {self.reading} has {length} tokens and the model reads at most {self.context}: "
                f"shorten it{', or use a window' if self.reading == 'text' else ''}."
            )


def start(model: nn.Module, init: Init, *stacks: Trunk) -> None:
    """Fresh weights, once all modules are there; ``stacks`` are those whose branches may start smaller."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding, OutputLayer)) and module.weight is not None:
            if init.kind == "normal":
                nn.init.normal_(module.weight, std=init.std)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if init.residual:
        for stack in stacks:
            for layer in stack.layers:
                for ends in (layer.attention.out, layer.feed_forward.down):  # type: ignore[union-attr]
                    nn.init.normal_(ends.weight, std=init.std / math.sqrt(2 * stack.depth))  # type: ignore[union-attr, arg-type]
