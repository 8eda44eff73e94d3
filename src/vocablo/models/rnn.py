"""Recurrent language models: Elman's network (Mikolov et al. 2010), GRU and LSTM (Zaremba et al. 2014).

    x_t = E[w_t]        h_t = layers(x_t, h_(t-1))        p(w | w_1..w_t) = softmax(O h_t + b)

The state goes in and out of ``forward``, so a stream can be read in pieces (truncated back-propagation), and one step of
generation costs the same however long the text is. Zaremba's models are ``stack.uniform = 0.1`` with 200 or 650 units (0.05)
or 1500 (0.04), two layers, and dropout on the embedding, between the layers and on the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Hidden, Tokens
from vocablo.nn.dropout import Dropout
from vocablo.nn.head import target_log_probs
from vocablo.nn.recurrent import RecurrentStack, RecurrentState

FAMILIES = {
    "rnn": "Elman's recurrent network",
    "gru": "recurrent network with gated units (GRU)",
    "lstm": "recurrent network with long short-term memory (LSTM)",
}
SIZES = {
    "tiny": {"embed": {"width": 128}, "stack": {"layers": 1, "width": 128}},
    "mini": {"embed": {"width": 200}, "stack": {"layers": 2, "width": 200}},
    "small": {"embed": {"width": 384}, "stack": {"layers": 2, "width": 384}},
    "medium": {"embed": {"width": 650}, "stack": {"layers": 2, "width": 650}},
    "base": {"embed": {"width": 1024}, "stack": {"layers": 2, "width": 1024}},
    "large": {"embed": {"width": 1500}, "stack": {"layers": 2, "width": 1500}},
}


class Embed(Settings):
    """The token table; ``frozen`` keeps it as it begins, which is for word vectors (``training/inputs.py``)."""

    vocab: int = Field(ge=1)
    width: int = Field(default=384, ge=1)
    frozen: bool = False


class Stack(Settings):
    """The recurrent layers. ``uniform`` starts every weight and bias in U(-u, u), as Zaremba does; None: torch's own way."""

    kind: Literal["elman", "gru", "lstm"] = "lstm"
    layers: int = Field(default=2, ge=1)
    width: int = Field(default=384, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    uniform: float | None = Field(default=None, gt=0)


class Head(Settings):
    """The output layer: the token table itself when tied (Press & Wolf 2017), else a matrix of its own; with a bias."""

    tied: bool = False


class Config(Settings):
    """All that defines a recurrent language model."""

    embed: Embed
    stack: Stack = Stack()
    head: Head = Head()

    @model_validator(mode="after")
    def _ties(self) -> Config:
        if self.head.tied and self.embed.frozen:
            raise ValueError("head.tied and embed.frozen exclude each other: the output layer has to learn")
        if self.head.tied and self.embed.width != self.stack.width:
            raise ValueError(
                f"head.tied needs embed.width {self.embed.width} and stack.width {self.stack.width} to be equal"
            )
        return self


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration of a family at a size; ``changes`` (nested, as in a recipe's ``model``) win.

    ``context`` is no limit here: it only says where back-propagation is cut. A change named ``dropout`` alone is the stack's.
    """
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    kind = "elman" if family == "rnn" else family
    rest = {key: value for key, value in changes.items() if key != "dropout"}
    layers: list[tuple[str, Mapping[str, Any]]] = [("size", SIZES[size])]
    if "dropout" in changes:
        layers.append(("dropout", {"stack": {"dropout": changes["dropout"]}}))
    layers += [("given", {"embed": {"vocab": vocab}, "stack": {"kind": kind}}), ("model", rest)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "rnn" if config.stack.kind == "elman" else config.stack.kind


def build(config: Config) -> RecurrentLM:
    """A model with fresh weights from torch's current random state."""
    return RecurrentLM(config)


class RecurrentLM(nn.Module):
    """A recurrent language model that obeys ``contract.LeftModel``; its state is carried over any number of tokens."""

    reads = "left"
    carries = True
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vocab = config.embed.vocab
        stack = config.stack
        self.tokens = nn.Embedding(self.vocab, config.embed.width)
        self.stack = RecurrentStack(stack.kind, config.embed.width, stack.width, stack.layers, stack.dropout)
        self.head = nn.Linear(stack.width, self.vocab)
        self.drop = Dropout(stack.dropout)
        if stack.uniform is not None:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -stack.uniform, stack.uniform)
        else:
            nn.init.normal_(self.tokens.weight, std=config.embed.width**-0.5)
            nn.init.zeros_(self.head.bias)
        if config.head.tied:
            self.head.weight = self.tokens.weight
        self.fixed = ("tokens.weight",) if config.embed.frozen else ()  # parameters that training leaves alone
        self.tokens.weight.requires_grad_(not config.embed.frozen)

    def forward(
        self,
        tokens: Tokens,
        source: Tokens | None = None,
        state: RecurrentState | None = None,
        keep: tuple[int, ...] = (),
    ) -> Hidden:
        """States of every token, [N, D], and in ``Hidden.state`` what to go on with.

        ``keep`` names layers to return: 0 the embeddings, l the output of layer l.
        """
        x = self.drop(self.tokens(tokens.ids))
        seen = [x]
        states, after = self.stack(x, tokens.fences, state, seen if keep else None)
        return Hidden(self.drop(states), layers=tuple(seen[layer] for layer in keep), state=after)

    def extend(self, tokens: Tokens, state: RecurrentState | None) -> tuple[Float[Tensor, "B V"], RecurrentState]:
        """Read more tokens of each of B sequences; logits after each one's last. Only for inference."""
        states, after = self.stack(self.tokens(tokens.ids), tokens.fences, state)
        return self.logits(states.index_select(0, tokens.fences.last())), after

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the next token, before the softmax."""
        return self.head(states)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[at[m]]) in nats."""
        return target_log_probs(states, at, ids, self.head.weight, self.head.bias)

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight that is multiplied."""
        looked_up = 0 if self.config.head.tied else self.tokens.weight.numel()
        return 6 * (sum(parameter.numel() for parameter in self.parameters()) - looked_up)
