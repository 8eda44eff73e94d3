"""The neural n-gram: a feed-forward language model over the last n - 1 words (Bengio et al. 2003, section 2).

    x = (C(w_(t-1)), ..., C(w_(t-n+1)))        the vectors of the words, side by side
    p(w | x) = softmax(b + W x + U tanh(d + H x))

Like an n-gram it sees n - 1 words and no more; unlike one, it knows them by vectors that it learns, so what it learns of one
word serves those with vectors near it. W, the direct connections from the vectors to the output, may be left out (theirs
learned faster with it and ended better without). The state of a token is (tanh(d + H x), x), or its first part alone, and
(U, W) is one matrix: so the output layer is a linear map of the state, as in any other family.

The boundary stands before a document's first word. As in the n-gram, contexts never cross it: the places before it, and
before where the reading began, have the vector of "nothing", the table's first row. Departures from the paper: dropout (off
unless it is asked for) on x and on the hidden layer, a learned vector for nothing, and whatever optimizer the recipe names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn.dropout import Dropout
from vocablo.nn.head import target_log_probs
from vocablo.nn.linear import Linear

FAMILIES = {"neural-ngram": "feed-forward network over the last n - 1 words (Bengio et al. 2003)"}
SIZES = {
    "tiny": {"order": 4, "embed": {"width": 64}, "hidden": 128},
    "mini": {"order": 5, "embed": {"width": 100}, "hidden": 200},
    "small": {"order": 5, "embed": {"width": 200}, "hidden": 400},
    "medium": {"order": 6, "embed": {"width": 300}, "hidden": 650},
    "base": {"order": 7, "embed": {"width": 400}, "hidden": 1024},
    "large": {"order": 8, "embed": {"width": 500}, "hidden": 1500},
}
NOTHING = -1


class Embed(Settings):
    """The words' vectors, C."""

    vocab: int = Field(ge=1)
    width: int = Field(default=200, ge=1)


class Config(Settings):
    """All that defines the model. ``order`` is n, ``hidden`` the rows of H, ``direct`` whether there is W.

    ``boundary`` is the token that contexts don't cross; None: they do.
    """

    embed: Embed
    order: int = Field(default=5, ge=2, le=64)
    hidden: int = Field(default=400, ge=1)
    direct: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    boundary: int | None = None


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration at a size; ``changes`` (nested, as in a recipe's ``model``) win. ``context`` is no limit here."""
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    layers = [("size", SIZES[size]), ("given", {"embed": {"vocab": vocab}}), ("model", changes)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "neural-ngram"


def build(config: Config) -> NeuralNGram:
    """A model with fresh weights from torch's current random state."""
    return NeuralNGram(config)


@dataclass(frozen=True)
class History:
    """What the model carries on: the last n - 1 ids of each sequence, [B, n - 1], -1 where there was nothing."""

    ids: Int[Tensor, "B W"]

    def select(self, rows: Int[Tensor, "B2"]) -> History:
        return History(self.ids.index_select(0, rows))


class NeuralNGram(nn.Module):
    """Bengio's model behind ``contract.LeftModel``."""

    reads = "left"
    carries = True
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vocab, self.width = config.embed.vocab, config.order - 1
        inputs = self.width * config.embed.width
        self.vectors = nn.Embedding(1 + self.vocab, config.embed.width)  # C, behind the vector of nothing
        self.hidden = Linear(inputs, config.hidden)  # H and d
        self.head = nn.Linear(config.hidden + (inputs if config.direct else 0), self.vocab)  # U, W and b
        self.drop = Dropout(config.dropout)
        nn.init.normal_(self.vectors.weight, std=config.embed.width**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: History | None = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, D], and in ``Hidden.state`` the last n - 1 ids. ``keep``: 0 names the vectors, x."""
        contexts = histories(tokens.ids, tokens.fences, self.width, None if state is None else state.ids)
        x, states = self._read(contexts)
        last = History(contexts.index_select(0, tokens.fences.last()))
        return Hidden(states, layers=tuple(x for layer in keep if layer == 0), state=last)

    def extend(self, tokens: Tokens, state: History | None) -> tuple[Float[Tensor, "B V"], History]:
        """Read more tokens of each of B sequences; logits after each one's last, the only place that is computed."""
        contexts = histories(tokens.ids, tokens.fences, self.width, None if state is None else state.ids)
        last = contexts.index_select(0, tokens.fences.last())
        return self.logits(self._read(last)[1]), History(last)

    def _read(self, contexts: Int[Tensor, "M W"]) -> tuple[Float[Tensor, "M X"], Float[Tensor, "M D"]]:
        """x and the state after each context."""
        x = self.vectors(within(contexts, self.config.boundary) + 1).flatten(1)
        dropped = self.drop(x)
        states = self.drop(torch.tanh(self.hidden(dropped)))
        return x, torch.cat([states, dropped], 1) if self.config.direct else states

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the next token, before the softmax."""
        return self.head(states)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[at[m]]) in nats."""
        return target_log_probs(states, at, ids, self.head.weight, self.head.bias)

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight that is multiplied; vectors are looked up."""
        return 6 * (sum(parameter.numel() for parameter in self.parameters()) - self.vectors.weight.numel())


def histories(
    ids: Int[Tensor, "N"], fences: Fences, width: int, before: Int[Tensor, "B W"] | None
) -> Int[Tensor, "N W"]:
    """The last ``width`` ids at every token, its own the last, -1 where nothing was read; ``before`` goes ahead of each sequence.

    Flat and without padding: each sequence's past is put before it, and the windows of that one row of ids are picked.
    """
    count = fences.count
    if before is None:
        before = ids.new_full((count, width), NOTHING)
    lengths = torch.tensor(fences.lengths, device=ids.device)
    rows = torch.repeat_interleave(torch.arange(count, device=ids.device), lengths, output_size=len(ids))
    at = torch.arange(len(ids), device=ids.device) + width * (rows + 1)
    joined = ids.new_empty(len(ids) + count * width)
    joined[at] = ids
    past = fences.first() + width * torch.arange(count, device=ids.device)
    joined[past[:, None] + torch.arange(width, device=ids.device)] = before
    return joined.unfold(0, width, 1).index_select(0, at - width + 1)


def within(contexts: Int[Tensor, "N W"], boundary: int | None) -> Int[Tensor, "N W"]:
    """The contexts with -1 for what stands before the last boundary in each."""
    if boundary is None:
        return contexts
    later = (contexts == boundary).flip(1).cumsum(1).flip(1)
    crossed = torch.zeros_like(contexts, dtype=torch.bool)
    crossed[:, :-1] = later[:, 1:] > 0
    return contexts.masked_fill(crossed, NOTHING)
