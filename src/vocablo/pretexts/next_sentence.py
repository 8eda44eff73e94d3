"""Next-sentence prediction (Devlin et al. 2019) and sentence order (Lan et al. 2020), alone or with masked tokens.

T draws pairs of passages (``_pairs``) and frames them as ``[CLS] A [SEP] B [SEP]``; L is the sum of ``-log p(label)``
over the pairs, where p comes from the pooled vector of the sequence, and in BERT's own objective, ``bert``, that of
masked language modelling besides. The two sums have different denominators: pairs, and hidden tokens.

    next_sentence    0: B follows A      1: B is of another document
    sentence_order   0: B follows A      1: the two are swapped

An epoch is one reading of all documents. How many pairs that makes depends on the draw, so the first epoch decides how
many steps an epoch has; in a later one, a few pairs of those drawn may be left out, or come twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch, BothModel, Target, Term
from vocablo.pretexts import _pairs as pairing
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._both import check
from vocablo.pretexts._masking import Masking, MaskSettings
from vocablo.pretexts._pairs import Pairs
from vocablo.pretexts._pretext import StorePretext, untold
from vocablo.pretexts._rows import MarkedStream, Sentences
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

READS = ("both",)
PRETEXTS = {
    "bert": "BERT's objective: hidden tokens, and whether a passage follows another",
    "albert": "ALBERT's objective: hidden tokens, and whether two passages are in order",
    "next_sentence": "tell whether a passage follows another",
    "sentence_order": "tell whether two passages are in order",
}
DRAWN = {"bert": "next_sentence", "albert": "sentence_order"}  # with masked tokens; the others alone


class Config(MaskSettings):
    """Which pairs, how many of them are cut ``short``er than the context, and how tokens are masked."""

    name: Literal["bert", "albert", "next_sentence", "sentence_order"] = "bert"
    order: Literal["shuffled"] = "shuffled"  # sequences are drawn as pairs; there is no other order
    short: float = Field(default=0.1, ge=0, le=1)


class Pretext(StorePretext):
    """Batches of one store for one run, and their loss; see ``_pretext.StorePretext``.

    Raises DataError when the store's documents give no pairs. The module of the loss, ``next_sentence`` or
    ``sentence_order``, is a linear map from the pooled vector, made by ``attach``.
    """

    def __init__(
        self,
        store: MarkedStream,
        settings: Config,
        *,
        tokenizer: Tokenizer,
        seed: int,
        batch: int,
        micro: int | None,
        context: int,
    ) -> None:
        super().__init__(store, settings, seed=seed, batch=batch, micro=micro, context=context)
        self.frame = Template.of(tokenizer).two
        self.kind = DRAWN.get(settings.name, settings.name)
        self.vocab = tokenizer.size
        self.masking = Masking(settings, tokenizer) if settings.name in DRAWN else None
        self.names: tuple[str, ...] = (self.kind,) if self.masking is None else ("masked", self.kind)
        self.perplexity_of: str | None = None if self.masking is None else "masked"
        self.room = context - self.frame.special_count
        if self.room < 2:
            raise ConfigError(f"A context of {context} has no room for two passages: make it larger.")
        self.sentences = self._read(store, "The text")
        pairs = self._pairs(self.sentences, self.seed, "pairs", 0)
        self.count = len(pairs)
        self.tokens = self._lengths(pairs).sum().item()
        self._epoch = (0, self.ordered(pairs, 0))
        self._head: nn.ModuleDict | None = None

    def drawn(self, epoch: int) -> Pairs:
        """The pairs of an epoch."""
        return self._pairs(self.sentences, self.seed, "pairs", epoch)

    def held_out(self, store: MarkedStream) -> Pairs:
        """Those of a held-out store, with the same draws each time and for every seed."""
        return self._pairs(self._read(store, "The held-out text"), 0, "validation")

    def terms(self, model: BothModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probabilities in nats, of the hidden tokens and of the labels; there is no state."""
        assert self._head is not None, "attach() makes the head"
        hidden = model(batch.tokens)  # type: ignore[operator]
        found = {}
        for name in self.names:
            target = batch.targets[name]
            if name == "masked":
                log_probs = model.target_log_probs(hidden.states, target.at, target.value)
                found[name] = untold(log_probs, target.count)
                continue
            logits = self._head[name](hidden.pooled.index_select(0, target.at))
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            correct = (logits.detach().argmax(1) == target.value).sum()
            found[name] = Term(F.cross_entropy(logits, target.value, reduction="sum"), target.count, correct=correct)
        return found, None

    def attach(self, model: Any, heads: Mapping[str, nn.Module]) -> None:
        """Make the head for a model, from torch's current random state, or take over the one among ``heads``."""
        head = heads.get(self.kind)
        if head is None:
            head = nn.Linear(model.config.stack.width, 2)
            nn.init.normal_(head.weight, std=model.config.init.std)
            nn.init.zeros_(head.bias)
        self._head = nn.ModuleDict({self.kind: head.train()})

    def modules(self) -> nn.ModuleDict | None:
        """The head, once it is there."""
        return self._head

    def check(self, model: BothModel) -> None:
        """Raise before training starts what would go wrong in it."""
        words = self.masking is not None
        check(model, vocab=self.vocab, context=self.context, frame=self.frame, words=words, pooled=True)

    def plateau(self) -> tuple[str, float] | None:
        """The term whose loss may stay where nothing of context is learnt, and where that is, in nats."""
        return None if self.masking is None else ("masked", self.masking.blind_loss(self.store.tokens))

    def _read(self, store: MarkedStream, what: str) -> Sentences:
        """The store's sentences. Raises DataError when they make no pairs."""
        sentences = Sentences.of(store)
        documents = len(sentences.first)
        if not (sentences.end - sentences.first > 1).any():
            raise DataError(
                f"{what} has documents of one sentence each, and a pair takes two sentences of one document: choose what "
                "a document is with --documents, or train on masked tokens alone with pretext.name=masked."
            )
        if self.kind == "next_sentence" and documents < 2:
            raise DataError(
                f"{what} is one document, and next-sentence prediction takes the passages that don't follow from another "
                "one: give more documents, choose what a document is with --documents, or take pretext.name=masked."
            )
        return sentences

    def _pairs(self, sentences: Sentences, seed: int, *stream: int | str) -> Pairs:
        draw = pairing.next_sentence if self.kind == "next_sentence" else pairing.sentence_order
        return draw(sentences, generator(seed, *stream), self.room, self.settings.short)

    def _lengths(self, pairs: Pairs) -> rows.Ints:
        return pairs.a_size + pairs.b_size + self.frame.special_count

    def make(self, store: MarkedStream, found: Pairs, share: slice, seed: int, *stream: int | str) -> Batch:
        """Pairs with their special tokens, whether B follows A, and what is hidden."""
        one = found.take(share)
        flat = rows.framed(store, self.frame, (one.a, one.a_size), (one.b, one.b_size))
        label = Target(torch.arange(len(one)), torch.from_numpy(one.label), len(one))
        if self.masking is None:
            return Batch(flat.tokens(), {self.kind: label})
        first = int(self._lengths(found.take(slice(0, share.start))).sum())
        masked = self.masking(flat, first, seed, *stream)
        target = Target(torch.from_numpy(masked.at), torch.from_numpy(masked.value), len(masked.at))
        return Batch(flat.tokens(masked.ids), {"masked": target, self.kind: label})
