"""Linear interpolation of two models that read from left to right and share a tokenizer (Jelinek & Mercer 1980).

    p(w | h) = lambda p_1(w | h) + (1 - lambda) p_2(w | h)

What one model lacks the other may have: a neural one knows similar words, an n-gram with a cache the words of this very
text. The mixture is a ``contract.LeftModel`` itself, so whatever is asked of one model can be asked of it. Its states are
those of both side by side, in float64, which holds an n-gram's ids and a network's float32 exactly.

The best lambda for a text has the derivative of its log-probability at zero; that is concave in lambda, so halving finds it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.contract import DecodeState, Hidden, LeftModel, Tokens

HALVINGS = 50


@dataclass(frozen=True)
class MixedState:
    """What both models carry on."""

    parts: tuple[Any, Any]

    def select(self, rows: Int[Tensor, "B2"]) -> MixedState:
        first, second = (part.select(rows) for part in self.parts)
        return MixedState((first, second))


class Mixture:
    """Two models as one; ``weight`` is lambda, the share of the first.

    Raises ConfigError for a weight that isn't between 0 and 1, or models that can't be mixed.
    """

    reads = "left"
    config = None

    def __init__(self, first: LeftModel, second: LeftModel, weight: float) -> None:
        if not 0 < weight < 1:
            raise ConfigError(f"The weight of the first model is between 0 and 1; got {weight:g}.")
        for model in (first, second):
            if model.reads != "left":
                raise ConfigError(
                    f"Only models that read from left to right are mixed; this one reads {model.reads!r}."
                )
        if first.vocab != second.vocab:
            raise ConfigError(
                f"Models of one vocabulary are mixed; these have {first.vocab} and {second.vocab} tokens: "
                "train both with the same --tokenizer."
            )
        self.models, self.weight, self.vocab = (first, second), weight, first.vocab
        contexts = [model.context for model in self.models if model.context is not None]
        self.context = min(contexts) if contexts else None
        # A model of any length goes on from a state, even one that needs none (an n-gram without a cache).
        self.carries = all(getattr(model, "carries", False) or model.context is None for model in self.models)
        one = Tokens.of([[0]])
        with torch.inference_mode():
            states = [model.forward(one).states for model in self.models]
        self._widths = [part.shape[1] for part in states]
        self._dtypes = [part.dtype for part in states]

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: MixedState | None = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, those of both side by side, [N, D1 + D2] in float64."""
        before = (None, None) if state is None else state.parts
        found = [model.forward(tokens, state=part) for model, part in zip(self.models, before, strict=True)]
        after = MixedState((found[0].state, found[1].state))
        return Hidden(torch.cat([part.states.double() for part in found], 1), state=after)

    def extend(self, tokens: Tokens, state: DecodeState | None) -> tuple[Float[Tensor, "B V"], MixedState]:
        """Read more tokens of each of B sequences; log-probabilities of what comes next."""
        before = state.parts if isinstance(state, MixedState) else (None, None)
        first, second = (model.extend(tokens, part) for model, part in zip(self.models, before, strict=True))
        return self._mixed(first[0].log_softmax(1), second[0].log_softmax(1)), MixedState((first[1], second[1]))

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """log p of every token: normalised."""
        first, second = (model.logits(part) for model, part in zip(self.models, self._split(states), strict=True))
        return self._mixed(first.log_softmax(1), second.log_softmax(1))

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[at[m]]) in nats."""
        parts = zip(self.models, self._split(states), strict=True)
        first, second = (model.target_log_probs(part, at, ids) for model, part in parts)
        return self._mixed(first, second)

    def _split(self, states: Tensor) -> list[Tensor]:
        parts = zip(states.split(self._widths, 1), self._dtypes, strict=True)
        return [part.to(dtype) for part, dtype in parts]

    def _mixed(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.logaddexp(first + math.log(self.weight), second + math.log1p(-self.weight))


def best_weight(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The lambda under which a text is most probable, from the log-probabilities [N] that both models give its tokens.

    It is kept between 0.001 and 0.999: a mixture is of two.
    """
    top = np.maximum(first, second)
    one, other = np.exp(first - top), np.exp(second - top)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rises = ((one - other) / (middle * one + (1 - middle) * other)).sum() > 0
        low, high = (middle, high) if rises else (low, middle)
    return float(np.clip((low + high) / 2, 0.001, 0.999))
