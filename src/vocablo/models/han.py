"""Hierarchical attention network (Yang et al. 2016): words make sentences, sentences make the document.

    x_it = E[w_it]                                      word t of sentence i
    h_it = [GRU forward(x_it); GRU backward(x_it)]      within the sentence
    u_it = tanh(W_w h_it + b_w)     alpha_it = softmax_t(u_it . u_w)     s_i = sum_t alpha_it h_it
    h_i  = [GRU forward(s_i); GRU backward(s_i)]        within the document
    u_i  = tanh(W_s h_i + b_s)      alpha_i = softmax_i(u_i . u_s)       v = sum_i alpha_i h_i

v is the document's vector; a task's head tells the label from it, softmax(W_c v + b_c) in the paper. ``stack.pooling`` mean
or max in the place of both attentions gives the paper's ablations HN-AVE and HN-MAX. Sentences of any length lie flat behind
one another, and so do the documents' sentences: nothing is padded or cut. Departures: words are drawn from a normal
distribution where no vectors are given (the paper trains word2vec on its texts: ``embed.vectors``), and dropout on what each
GRU reads is there if it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn.dropout import Dropout
from vocablo.nn.pooling import LEARNT, learnt, pool
from vocablo.nn.recurrent import TwoWayStack

FAMILIES = {"han": "hierarchical attention network over words and sentences (Yang et al. 2016), learnt from labels"}
FINETUNE = {"lr": 2e-3, "epochs": 5}  # of fresh weights, where nothing else is asked for
SIZES = {  # width of the words, of the GRUs each way, of u
    "tiny": (48, 16, 32),
    "mini": (96, 24, 48),
    "small": (128, 32, 64),
    "medium": (160, 40, 80),
    "base": (200, 50, 100),  # the paper's
    "large": (300, 100, 200),
}


class Embed(Settings):
    """The word table; ``frozen`` keeps it as it begins, which is for word vectors (``training/inputs.py``)."""

    vocab: int = Field(ge=1)
    width: int = Field(default=200, ge=1)
    frozen: bool = False


class Stack(Settings):
    """Both levels: ``width`` of the GRUs each way, ``context`` of u_w and u_s, and how states become one vector."""

    width: int = Field(default=50, ge=1)
    context: int = Field(default=100, ge=1)
    pooling: Literal["han", "attention", "mean", "max"] = "han"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Config(Settings):
    """All that defines a hierarchical attention network."""

    embed: Embed
    stack: Stack = Stack()


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration at a size; ``changes`` (nested) win. ``context`` is no limit here.

    A change named ``dropout`` alone is the stack's.
    """
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    words, width, hidden = SIZES[size]
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("size", {"embed": {"width": words}, "stack": {"width": width, "context": hidden}})
    ]
    if "dropout" in changes:
        layers.append(("dropout", {"stack": {"dropout": changes["dropout"]}}))
    rest = {key: value for key, value in changes.items() if key != "dropout"}
    layers += [("given", {"embed": {"vocab": vocab}}), ("model", rest)]
    return build_settings(Config, merge(layers)[0], "model")


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "han"


def build(config: Config) -> HierarchicalAttention:
    """A model with fresh weights from torch's current random state."""
    return HierarchicalAttention(config)


class HierarchicalAttention(nn.Module):
    """Documents to vectors; obeys ``contract.DocumentModel``."""

    reads = "document"
    carries = False
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.vocab = config, config.embed.vocab
        stack = config.stack
        self.width = 2 * stack.width
        self.tokens = nn.Embedding(self.vocab, config.embed.width)
        nn.init.normal_(self.tokens.weight, std=config.embed.width**-0.5)
        self.words = Level(config.embed.width, stack)
        self.sentences = Level(self.width, stack)
        self.fixed = ("tokens.weight",) if config.embed.frozen else ()  # parameters that training leaves alone
        self.tokens.weight.requires_grad_(not config.embed.frozen)

    def forward(
        self,
        tokens: Tokens,
        source: Tokens | None = None,
        state: Any = None,
        keep: tuple[int, ...] = (),
        groups: Fences | None = None,
    ) -> Hidden:
        """States of words [N, D], and vectors of documents, ``pooled`` [G, D].

        ``groups``: how many sentences make each document; None: every sentence is a document. ``keep`` may name layer 0,
        the embeddings. Raises DataError for a sentence without words or a document without sentences.
        """
        if groups is None:
            groups = Fences.of([1] * tokens.fences.count, tokens.ids.device)
        x = self.tokens(tokens.ids)
        states, sentences, of_words = self.words(x, tokens.fences)
        _, documents, of_sentences = self.sentences(sentences, groups)
        return Hidden(states, documents, (x,) * len(keep), weights=(*of_words, *of_sentences))

    def flops_per_token(self, context: int) -> int:
        """Forward and backward of a word: 6 for each weight of its level. Sentences, which are few, are left out."""
        return 6 * sum(parameter.numel() for parameter in self.words.parameters())


class Level(nn.Module):
    """One storey: a bidirectional GRU over the members of each sequence, and one vector made of its states."""

    def __init__(self, width: int, stack: Stack) -> None:
        super().__init__()
        self.gru = TwoWayStack("gru", width, stack.width, 1, 0.0)
        self.kind = stack.pooling
        self.attention = learnt(stack.pooling, 2 * stack.width, stack.context) if stack.pooling in LEARNT else None
        self.drop = Dropout(stack.dropout)

    def forward(
        self, x: Float[Tensor, "N D"], fences: Fences
    ) -> tuple[Float[Tensor, "N D2"], Float[Tensor, "B D2"], tuple[Tensor, ...]]:
        """States of the members, the vector of each sequence, and what each member weighs in it ([N]; none: no attention)."""
        states = self.gru(self.drop(x), fences)
        if self.attention is None:
            return states, pool(states, fences, self.kind), ()
        vectors, weights = self.attention(states, fences)
        return states, vectors, (weights,)
