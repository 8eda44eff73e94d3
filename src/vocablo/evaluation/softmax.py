"""Softmax regression, the classifier of a linear probe: all that it can tell apart stands linearly in what it is given.

    z = (x - mean) / deviation        p(c | x) = softmax(W z + b)_c        loss: mean of -log p + weight |W|^2 / 2

Mean and deviation are the training rows'. The loss is convex and is minimised by L-BFGS from zero, over all rows at every
step, so that nothing is drawn by lot; the rows may stand on disk and are read in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

PIECE = 8192  # rows read at once


@dataclass(frozen=True, slots=True, eq=False)
class Softmax:
    """What was learnt: weights [C, D] and bias [C], of rows as they are; the loss it ended at, and in how many steps."""

    weight: Tensor
    bias: Tensor
    loss: float
    steps: int

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """The most probable class of each row [M, D]."""
        found = [(part @ self.weight.T + self.bias).argmax(1) for _, part in _pieces(rows)]
        return torch.cat(found).numpy()


def fit(
    rows: NDArray[np.float32], classes: NDArray[np.int64], count: int, *, weight: float = 1e-3, steps: int = 200
) -> Softmax:
    """Learn classes [M], numbers below ``count``, from rows [M, D]; ``steps`` of L-BFGS at most."""
    mean, scale = _moments(rows)
    target = torch.from_numpy(classes)
    matrix = torch.zeros(count, rows.shape[1], requires_grad=True)
    bias = torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [matrix, bias], max_iter=steps, tolerance_grad=1e-5, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )
    last = 0.0

    def closure() -> float:
        nonlocal last
        optimizer.zero_grad()
        last = 0.0
        for begin, part in _pieces(rows):
            own = matrix / scale
            scores = part @ own.T + (bias - own @ mean)
            loss = F.cross_entropy(scores, target[begin : begin + len(part)], reduction="sum") / len(rows)
            loss.backward()
            last += float(loss.detach())
        penalty = weight / 2 * matrix.square().sum()
        penalty.backward()
        last += float(penalty.detach())
        return last

    optimizer.step(closure)
    state: Any = optimizer.state[matrix]
    with torch.no_grad():
        own = matrix / scale
        return Softmax(own, bias - own @ mean, last, int(state.get("n_iter", 0)))


def _moments(rows: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each column, float32 [D]; of a column that doesn't vary the deviation is 1."""
    total = sum(part.double().sum(0) for _, part in _pieces(rows))
    assert isinstance(total, Tensor)
    mean = total / len(rows)
    spread = sum((part.double() - mean).square().sum(0) for _, part in _pieces(rows))
    assert isinstance(spread, Tensor)
    deviation = (spread / len(rows)).sqrt()
    return mean.float(), torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, torch.ones(())).float()


def _pieces(rows: NDArray[np.float32]) -> Iterator[tuple[int, Tensor]]:
    for begin in range(0, len(rows), PIECE):
        yield begin, torch.from_numpy(np.array(rows[begin : begin + PIECE], dtype=np.float32))
