"""Where decoding begins: prompts that a left model goes on with, or sources that a model writes the targets of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.contract import DecodeState, Fences, LeftModel, SourceTargetModel, Tokens
from vocablo.decoding.rules import NOTHING

Extend = Callable[[Tokens, DecodeState], tuple[Tensor, DecodeState]]


@dataclass(frozen=True, slots=True)
class Start:
    """B texts to be written: the scores of their first tokens, and what reads on.

    ``history`` is what has been read, right-aligned, -1 where there is nothing; ``room``: how many tokens fit into the
    model's context (None: no limit). ``attended(state)`` is the attention [B, S] of the step just read on the source
    tokens, 0 beyond a source's end; None where a family has none.
    """

    extend: Extend
    logits: Float[Tensor, "B V"]
    state: DecodeState
    history: Int[Tensor, "B M"]
    room: int | None = None
    attended: Callable[[DecodeState], Float[Tensor, "B S"]] | None = None

    @property
    def count(self) -> int:
        """B."""
        return len(self.logits)


def after_prompts(model: LeftModel, prompts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Start:
    """Go on with prompts, none of them empty. Raises ConfigError for one that is longer than the context."""
    tokens, longest = Tokens.of(prompts, device), max(map(len, prompts))
    if model.context is not None and longest > model.context:
        raise ConfigError(f"The prompt has {longest} tokens and the model reads {model.context}: shorten it.")
    logits, state = model.extend(tokens, None)
    rows = [[NOTHING] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    room = None if model.context is None else model.context - longest + 1
    return Start(model.extend, logits, state, torch.tensor(rows, device=device), room)


def from_sources(model: SourceTargetModel, source: Tokens) -> Start:
    """Write the targets of B sources. The model checks how long they may be."""
    device, count = source.ids.device, source.fences.count
    logits, state = model.extend(Tokens.of([model.start] * count, device), model.encode(source))
    room = None if model.context is None else model.context - len(model.start) + 1
    history = torch.tensor([model.start] * count, dtype=torch.long, device=device)
    return Start(model.extend, logits, state, history, room, getattr(model, "attended", None))


class Ones:
    """One token for each row. The fences of a step are those of the step before while the number of rows stays."""

    def __init__(self) -> None:
        self.fences: Fences | None = None

    def __call__(self, ids: Int[Tensor, "B"]) -> Tokens:
        if self.fences is None or self.fences.count != len(ids):
            self.fences, self.zeros = Fences.of([1] * len(ids), ids.device), torch.zeros_like(ids)
        return Tokens(ids, self.fences, self.zeros)
