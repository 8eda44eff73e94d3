"""A word's vector from its characters: a convolution over them, a highway and a projection (Kim et al. 2016; Peters et al. 2018).

e_1 .. e_C    vectors of the characters        y_w = act(max_j (b_w + sum_k W_wk e_(j+k)))   for each filter width w
y = [y_1; y_2; ...]                            y <- g * relu(W y + b) + (1 - g) * y,  g = sigmoid(G y + d)
x = P y + p
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocablo.text.characters import PADDING

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}
Activation = Literal["relu", "tanh"]


class CharacterCNN(nn.Module):
    """``size`` characters with vectors of ``embed`` numbers; ``filters`` are pairs (width, how many); ``out`` is D."""

    def __init__(
        self,
        size: int,
        embed: int,
        filters: Sequence[tuple[int, int]],
        highway: int,
        activation: Activation,
        out: int,
    ) -> None:
        super().__init__()
        self.widest = max(width for width, _ in filters)
        total = sum(count for _, count in filters)
        self.characters = nn.Embedding(size, embed)
        self.filters = nn.ModuleList(nn.Conv1d(embed, count, width) for width, count in filters)
        self.highway = nn.ModuleList(Highway(total) for _ in range(highway))
        self.projection = nn.Linear(total, out)
        self.activation = ACTIVATIONS[activation]

    def forward(self, rows: Int[Tensor, "N C"]) -> Float[Tensor, "N D"]:
        """A vector for each row of character ids."""
        x = self.characters(self._trimmed(rows)).transpose(1, 2)
        y = torch.cat([self.activation(filter(x).amax(2)) for filter in self.filters], dim=1)
        for layer in self.highway:
            y = layer(y)
        return self.projection(y)

    def _trimmed(self, rows: Int[Tensor, "N C"]) -> Int[Tensor, "N C2"]:
        """Without columns of padding that change no maximum: one window of padding alone is as good as many."""
        used = (rows != PADDING).any(0)
        longest = int(used.nonzero().max()) + 1 if bool(used.any()) else 0
        return rows[:, : min(rows.shape[1], longest + self.widest)]


class Highway(nn.Module):
    """y = g * relu(W x + b) + (1 - g) * x, g = sigmoid(G x + d) (Srivastava et al. 2015); at first it mostly lets x through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        gate = torch.sigmoid(self.gate(x))
        return gate * torch.relu(self.transform(x)) + (1 - gate) * x
