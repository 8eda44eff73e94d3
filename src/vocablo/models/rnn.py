"""Recurrent language models: Elman's network (Mikolov et al. 2010), GRU and LSTM (Zaremba et al. 2014).

    x_t = E[w_t]        h_t = layers(x_t, h_(t-1))        p(w | w_1..w_t) = softmax(O h_t + b)

The state goes in and out of ``forward``, so a stream can be read in pieces (truncated back-propagation), and one step of
generation costs the same however long the text is. Zaremba's models are ``stack.uniform = 0.1`` with 200 or 650 units (0.05)
or 1500 (0.04), two layers, and dropout on the embedding, between the layers and on the output.

The same layers read from both ends (Schuster & Paliwal 1997; Graves & Schmidhuber 2005) make an encoder, of which the state
of a token has seen its whole sequence:

    h_t = [forward(x_1 .. x_t); backward(x_T .. x_t)]

It is read by classifiers and taggers, and an output layer on it tells the words that its input hides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Hidden, Tokens
from vocablo.nn.dropout import Dropout
from vocablo.nn.head import target_log_probs
from vocablo.nn.recurrent import RecurrentStack, RecurrentState, TwoWayStack, held
from vocablo.nn.spelling import Chars, Spelled
from vocablo.text.characters import MoreWords
from vocablo.text.tokenizer import Tokenizer

FAMILIES = {
    "rnn": "Elman's recurrent network",
    "gru": "recurrent network with gated units (GRU)",
    "lstm": "recurrent network with long short-term memory (LSTM)",
    "birnn": "Elman's recurrent network, read from both ends",
    "bigru": "GRU read from both ends",
    "bilstm": "LSTM read from both ends (BiLSTM)",
}
FINETUNE = {
    "tokenizer": "word",
    "lr": 2e-3,
    "epochs": 5,
}  # of fresh weights for a task, where nothing else is asked for
SIZES = {
    "tiny": {"embed": {"width": 128}, "stack": {"layers": 1, "width": 128}},
    "mini": {"embed": {"width": 200}, "stack": {"layers": 2, "width": 200}},
    "small": {"embed": {"width": 384}, "stack": {"layers": 2, "width": 384}},
    "medium": {"embed": {"width": 650}, "stack": {"layers": 2, "width": 650}},
    "base": {"embed": {"width": 1024}, "stack": {"layers": 2, "width": 1024}},
    "large": {"embed": {"width": 1500}, "stack": {"layers": 2, "width": 1500}},
}


class Embed(Settings):
    """The token table; ``frozen`` keeps it as it begins, which is for word vectors (``training/inputs.py``).

    ``unknown`` is the token of unknown words. While a network that reads both ways learns a task, words that come once in its
    examples are read as that with probability ``once``, so that its row is learnt too (Lample et al. 2016).
    """

    vocab: int = Field(ge=1)
    width: int = Field(default=384, ge=1)
    frozen: bool = False
    unknown: int | None = None
    once: float = Field(default=0.5, ge=0, le=1)


class Stack(Settings):
    """The recurrent layers. ``uniform`` starts every weight and bias in U(-u, u), as Zaremba does; None: torch's own way.

    ``bidirectional`` reads from both ends, with ``width`` units for each direction; without ``layers`` the states are the words'
    vectors themselves, and their mean is a bag of vectors. ``variational`` is dropout with one mask for all positions of a
    sequence, on the recurrent connections too (an LSTM that reads from the left; Gal & Ghahramani 2016).
    """

    kind: Literal["elman", "gru", "lstm"] = "lstm"
    bidirectional: bool = False
    layers: int = Field(default=2, ge=0)
    width: int = Field(default=384, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    variational: bool = False
    uniform: float | None = Field(default=None, gt=0)


class Head(Settings):
    """The output layer: the token table itself when tied (Press & Wolf 2017), else a matrix of its own; with a bias."""

    tied: bool = False


class Config(Settings):
    """All that defines a recurrent network. ``head`` None: no output layer (read from both ends, and kept for its states).

    ``chars``: words are read by their letters as well (``nn/spelling.py``).
    """

    embed: Embed
    stack: Stack = Stack()
    head: Head | None = Head()
    chars: Chars | None = None

    @property
    def input_width(self) -> int:
        """Of what the first layer reads."""
        return self.embed.width + (0 if self.chars is None else 2 * self.chars.hidden)

    @property
    def width(self) -> int:
        """Of the states that come out."""
        if not self.stack.layers:
            return self.input_width
        return self.stack.width * (2 if self.stack.bidirectional else 1)

    @model_validator(mode="after")
    def _ties(self) -> Config:
        if not self.stack.layers and not self.stack.bidirectional:
            raise ValueError("stack.layers: a language model needs one at least, or no word would know of another")
        if self.stack.variational and (self.stack.kind != "lstm" or self.stack.bidirectional):
            raise ValueError("stack.variational is of an LSTM that reads from the left (lstm)")
        if self.chars is not None and not self.stack.bidirectional:
            raise ValueError(
                "chars: words by their letters are for networks that read both ways (bilstm, bigru, birnn)"
            )
        if self.head is None:
            if not self.stack.bidirectional:
                raise ValueError("head: a network that reads from the left is a language model and has an output layer")
            return self
        if self.head.tied and self.embed.frozen:
            raise ValueError("head.tied and embed.frozen exclude each other: the output layer has to learn")
        if self.head.tied and self.embed.width != self.width:
            raise ValueError(f"head.tied needs embed.width {self.embed.width} to be the states' width {self.width}")
        return self


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration of a family at a size; ``changes`` (nested, as in a recipe's ``model``) win.

    ``context`` is no limit here: it only says where back-propagation is cut. A change named ``dropout`` alone is the stack's.
    """
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    one_way = family.removeprefix("bi")
    shape = {"kind": "elman" if one_way == "rnn" else one_way, "bidirectional": one_way != family}
    rest = {key: value for key, value in changes.items() if key != "dropout"}
    layers: list[tuple[str, Mapping[str, Any]]] = [("size", SIZES[size])]
    if "dropout" in changes:
        layers.append(("dropout", {"stack": {"dropout": changes["dropout"]}}))
    layers += [("given", {"embed": {"vocab": vocab}, "stack": shape}), ("model", rest)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    kind = "rnn" if config.stack.kind == "elman" else config.stack.kind
    return f"bi{kind}" if config.stack.bidirectional else kind


def build(config: Config) -> RecurrentLM | RecurrentEncoder:
    """A model with fresh weights from torch's current random state."""
    return RecurrentEncoder(config) if config.stack.bidirectional else RecurrentLM(config)


def _start(model: RecurrentLM | RecurrentEncoder) -> None:
    """Fresh weights, ties, and what training leaves alone, once all modules are there."""
    config = model.config
    if config.stack.uniform is not None:
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -config.stack.uniform, config.stack.uniform)
    else:
        nn.init.normal_(model.tokens.weight, std=config.embed.width**-0.5)
        if model.head is not None:
            nn.init.zeros_(model.head.bias)
    if model.head is not None and config.head is not None and config.head.tied:
        model.head.weight = model.tokens.weight
    model.tokens.weight.requires_grad_(not config.embed.frozen)


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
        self.stack = RecurrentStack(
            stack.kind, config.embed.width, stack.width, stack.layers, stack.dropout, stack.variational
        )
        self.head = nn.Linear(stack.width, self.vocab)
        self.drop = Dropout(stack.dropout)
        self.fixed = ("tokens.weight",) if config.embed.frozen else ()  # parameters that training leaves alone
        _start(self)

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
        x = self._dropped(self.tokens(tokens.ids), tokens)
        seen = [x]
        states, after = self.stack(x, tokens.fences, state, seen if keep else None)
        return Hidden(self._dropped(states, tokens), layers=tuple(seen[layer] for layer in keep), state=after)

    def _dropped(self, x: Tensor, tokens: Tokens) -> Tensor:
        if self.config.stack.variational:
            return held(x, tokens.fences, self.drop.p, self.training)
        return self.drop(x)

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
        tied = self.config.head is not None and self.config.head.tied
        looked_up = 0 if tied else self.tokens.weight.numel()
        return 6 * (sum(parameter.numel() for parameter in self.parameters()) - looked_up)


class RecurrentEncoder(nn.Module):
    """A recurrent network read from both ends that obeys ``contract.BothModel``. It has no pooler: tasks pool its states."""

    reads = "both"
    bare = True  # it reads a text as it is where the tokenizer has no special tokens to put around it
    carries = False
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vocab = config.embed.vocab
        stack = config.stack
        self.tokens = nn.Embedding(self.vocab, config.embed.width)
        self.spelled = None if config.chars is None else Spelled(config.chars, self.vocab, config.embed.unknown)
        self.stack = TwoWayStack(stack.kind, config.input_width, stack.width, stack.layers, stack.dropout)
        self.head = None if config.head is None else nn.Linear(config.width, self.vocab)
        self.rare: Tensor | None = None  # [V]: words that come once in what it learns from; not saved
        self.drop = Dropout(stack.dropout)
        self.fixed = ("tokens.weight",) if config.embed.frozen else ()
        _start(self)

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: None = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """States of every token, [N, 2 H], forward and backward joined.

        ``keep`` names layers to return: 0 the embeddings, l the output of layer l.
        """
        x = self.drop(self._read(tokens.ids))
        seen = [x]
        states = self.stack(x, tokens.fences, seen if keep else None)
        return Hidden(states, layers=tuple(seen[layer] for layer in keep))

    def logits(self, states: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Scores of the token at each given state, before the softmax. Raises ConfigError without an output layer."""
        return self._output()(states)

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """log p(ids[m] at the place of states[at[m]]) in nats: of words that the input hides, or it can look them up."""
        head = self._output()
        return target_log_probs(states, at, ids, head.weight, head.bias)

    def states_at(self, tokens: Tokens, at: Int[Tensor, "M"], counts: Sequence[int]) -> Float[Tensor, "M D"]:
        """The states of some tokens only: what ``forward`` has at ``at``."""
        return self.forward(tokens).states.index_select(0, at)

    def trimmed(self, pooler: bool = False) -> RecurrentEncoder:
        """The same network without the output layer; there is no pooler to put in."""
        model = RecurrentEncoder(self.config.model_copy(update={"head": None}))
        mine = self.state_dict()
        model.load_state_dict({name: mine[name] for name in model.state_dict()})
        return model

    @property
    def more(self) -> MoreWords | tuple[()]:
        """Words beyond the vocabulary, where it reads letters."""
        return () if self.spelled is None else self.spelled.more

    def spell(self, tokenizer: Tokenizer) -> None:
        """Tell it the letters of its words, where it reads them."""
        if self.spelled is not None:
            self.spelled.spell(tokenizer)

    def seen(self, ids: Int[Tensor, "N"]) -> None:
        """Tell it what it learns from: words that come once there stand in for unknown ones now and then."""
        counts = torch.bincount(self._places(ids[ids < self.vocab]), minlength=self.vocab)
        self.rare = counts == 1

    def _places(self, ids: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """The rows of the table that tokens read."""
        if self.spelled is None:
            return ids
        return self.spelled.folded.index_select(0, ids)

    def _read(self, ids: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """What the first layer reads, before dropout."""
        places, letters = (ids, None) if self.spelled is None else self.spelled(ids)
        unknown, once = self.config.embed.unknown, self.config.embed.once
        if self.training and self.rare is not None and unknown is not None and once:
            hidden = self.rare.to(ids.device)[places] & (torch.rand(len(places), device=ids.device) < once)
            places = places.masked_fill(hidden, unknown)
        words = self.tokens(places)
        return words if letters is None else torch.cat([words, letters], dim=1)

    def flops_per_token(self, context: int) -> int:
        """Forward and backward: 6 for each weight of the layers; the output layer only sees what is hidden."""
        read = list(self.stack.parameters()) + ([] if self.spelled is None else list(self.spelled.stack.parameters()))
        return 6 * sum(parameter.numel() for parameter in read)

    def _output(self) -> nn.Linear:
        if self.head is None:
            raise ConfigError("This encoder has no output layer over the vocabulary: it gives states, not words.")
        return self.head
