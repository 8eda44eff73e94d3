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

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.contract import Batch, BothModel, Target, Term
from vocablo.data.order import shuffled
from vocablo.pretexts import _pairs as pairing
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._both import check
from vocablo.pretexts._masking import Masking, MaskSettings
from vocablo.pretexts._pairs import Pairs
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


class Pretext:
    """Batches of one store for one run, and their loss; see ``masked.Pretext`` for the arguments.

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
        if min(batch, context, micro or 1) < 1:
            raise ConfigError(f"batch, micro and context are at least 1; got {batch}, {micro} and {context}.")
        self.store, self.settings, self.seed = store, settings, seed
        self.batch, self.micro, self.context = batch, micro or batch, context
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
        self._count = len(pairs)
        self.tokens = self._lengths(pairs).sum().item()
        self._epoch = (0, pairs.take(shuffled(len(pairs), seed, 0)))
        self._head: nn.ModuleDict | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which all documents are read once."""
        return rows.ceil(self._count, self.batch)

    def continues(self, step: int) -> bool:
        """No state is carried from step to step."""
        return False

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """The part of optimizer step ``step`` (from 0) that ``rank`` works on: a pure function of the arguments.

        The pairs and masks of the step are the same for every ``micro`` and ``world``.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            drawn = self._pairs(self.sentences, self.seed, "pairs", epoch)
            order = np.resize(shuffled(len(drawn), self.seed, epoch), self._count)
            self._epoch = (epoch, drawn.take(order))
        pairs = self._epoch[1].take(slice(index * self.batch, (index + 1) * self.batch))
        shares = rows.shares(len(pairs), self.micro, rank, world)
        return [self._batch(self.store, pairs, share, self.seed, "mask", step) for share in shares]

    def terms(self, model: BothModel, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        """The summed negative log-probabilities in nats, of the hidden tokens and of the labels; there is no state."""
        assert self._head is not None, "attach() makes the head"
        hidden = model(batch.tokens)  # type: ignore[operator]
        found = {}
        for name in self.names:
            target = batch.targets[name]
            if name == "masked":
                log_probs = model.target_log_probs(hidden.states, target.at, target.value)
                total = -log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).sum()
                found[name] = Term(total, target.count)
                continue
            logits = self._head[name](hidden.pooled.index_select(0, target.at))
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            correct = (logits.detach().argmax(1) == target.value).sum()
            found[name] = Term(F.cross_entropy(logits, target.value, reduction="sum"), target.count, correct=correct)
        return found, None

    def validation(
        self, store: MarkedStream, rank: int = 0, world: int = 1, batches: int | None = None
    ) -> Iterator[Batch]:
        """A held-out store as pairs, with the same draws and masks each time and for every seed.

        ``batches`` limits the work to so many batches of each rank, evenly spread over the store.
        """
        pairs = self._pairs(self._read(store, "The held-out text"), 0, "validation")
        for share in rows.spread(len(pairs), self.micro, rank, world, batches):
            yield self._batch(store, pairs, share, 0, "validation")

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

    def fingerprint(self) -> dict[str, Any]:
        """What decides the sequence of batches; a resumed run must have the same."""
        return {
            "pretext": self.settings.name,
            **self.settings.model_dump(),
            "context": self.context,
            "batch": self.batch,
            "micro": self.micro,
            "seed": self.seed,
            "tokens": self.tokens,
            "tokens_crc32": rows.crc32(self.store.tokens),
        }

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

    def _batch(self, store: MarkedStream, pairs: Pairs, share: slice, seed: int, *stream: int | str) -> Batch:
        one = pairs.take(share)
        flat = rows.framed(store, self.frame, (one.a, one.a_size), (one.b, one.b_size))
        label = Target(torch.arange(len(one)), torch.from_numpy(one.label), len(one))
        if self.masking is None:
            return Batch(flat.tokens(), {self.kind: label})
        first = int(self._lengths(pairs.take(slice(0, share.start))).sum())
        masked = self.masking(flat, first, seed, *stream)
        target = Target(torch.from_numpy(masked.at), torch.from_numpy(masked.value), len(masked.at))
        return Batch(flat.tokens(masked.ids), {"masked": target, self.kind: label})
