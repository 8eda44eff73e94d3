"""How probable texts are: log-probabilities by the chain rule, per token, per word and in total.

    log p(w_1 .. w_n) = sum log p(w_t | w_<t)

The first token's policy is stated in each result. ``boundary``: it is scored too, as what follows ``<end>``; so the text is
one that begins there. ``skipped``: the tokenizer has no boundary, and the first token is only read.

A convention says how: ``vocablo`` (the boundary first where there is one, texts compared by their sums) or ``minicons`` (no
boundary, so the first token is skipped, and texts compared by the mean of their tokens; its defaults in version 0.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vocablo.base.errors import ConfigError, nearest
from vocablo.base.progress import Progress
from vocablo.contract import LeftModel
from vocablo.inference.mixture import Mixture
from vocablo.inference.reading import BATCH_TOKENS, Ints, carried, chain
from vocablo.measures.likelihood import Likelihood
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import count_words

CONVENTIONS = ("vocablo", "minicons")
GROUP = 1024  # documents, or GROUP_CHARACTERS, that are tokenized and scored at a time
GROUP_CHARACTERS = 4 * BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class WordScore:
    """A word and its tokens, ``tokens[begin:end]``; white space counts with the word before it."""

    word: str
    log_prob: float
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Score:
    """The log-probability of a text, in nats. ``log_probs`` has one number for each of ``tokens`` and sums to ``log_prob``.

    A token that wasn't scored (the first one, where ``first`` is ``skipped``) has None.
    """

    text: str
    tokens: list[str]
    ids: list[int]
    log_probs: list[float | None]
    words: list[WordScore]
    likelihood: Likelihood
    first: str
    convention: str = "vocablo"

    @property
    def kind(self) -> str:
        """What the numbers are; scores of different kinds are not comparable."""
        return "chain rule"

    @property
    def log_prob(self) -> float:
        """Of all scored tokens together."""
        return self.likelihood.log_prob

    @property
    def mean_log_prob(self) -> float:
        """Per scored token; not a number when there is none."""
        return self.log_prob / self.likelihood.tokens if self.likelihood.tokens else math.nan

    @property
    def value(self) -> float:
        """What the convention ranks texts by."""
        return self.mean_log_prob if self.convention == "minicons" else self.log_prob

    @property
    def perplexity(self) -> float:
        """Per scored token."""
        return self.likelihood.perplexity

    @property
    def word_perplexity(self) -> float:
        """Per white-space word."""
        return self.likelihood.word_perplexity

    @property
    def bits_per_byte(self) -> float | None:
        """None where it would mislead: see ``Likelihood``."""
        return self.likelihood.bits_per_byte

    @property
    def unknown(self) -> int:
        """How many tokens stand for text that the vocabulary lacks."""
        return self.likelihood.unknown


def score(
    model: LeftModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    end: bool = False,
    stride: int | None = None,
    convention: str = "vocablo",
) -> list[Score]:
    """Score each text; ``end`` adds the probability that the text ends there. ``convention``: see the module's docstring.

    Raises ConfigError for a text over the model's context without a ``stride`` (see ``inference.reading``).
    """
    boundary = tokenizer.end_id if convention_named(convention) == "vocablo" else None
    if end and tokenizer.end_id is None:
        raise ConfigError("end=True needs a tokenizer with a boundary such as <end>; this one has none.")
    closing = [tokenizer.end_id] if end and tokenizer.end_id is not None else []
    encodings = [tokenizer.encode(text) for text in texts]
    ids = [[*encoding.ids, *closing] for encoding in encodings]
    opening = [] if boundary is None else [boundary]
    found = chain(model, [np.array([*opening, *one], dtype=np.int64) for one in ids], stride)
    scores = []
    for text, encoding, one, log_probs in zip(texts, encodings, ids, found, strict=True):
        begin = int(encoding.offsets[0, 1]) if boundary is None and one else 0
        first = "skipped" if boundary is None else "boundary"
        likelihood = _likelihood(tokenizer, text, begin, one, log_probs, bool(closing))
        likelihood = replace(likelihood, policy=_policy(model, first, stride))
        values: list[float | None] = log_probs.tolist()
        if boundary is None and one:
            values = [None, *values]
        surfaces = [tokenizer.surface(token) for token in one]
        found_words = _words(tokenizer, one, values)
        scores.append(Score(text, surfaces, one, values, found_words, likelihood, first, convention))
    return scores


def score_each(
    model: LeftModel, tokenizer: Tokenizer, texts: Iterable[str], *, quiet: bool = True, **how: Any
) -> Iterator[Score]:
    """The same for any number of texts, scored as they are asked for; ``how`` are the options of ``score``."""
    with Progress("scoring", None, "tokens", quiet=quiet) as progress:
        for some in grouped(texts):
            found = score(model, tokenizer, some, **how)
            progress.advance(sum(len(one.ids) for one in found))
            yield from found


def convention_named(name: str) -> str:
    """The name itself. Raises ConfigError for one that isn't known."""
    if name not in CONVENTIONS:
        raise ConfigError(f"There is no convention {name!r}{nearest(name, CONVENTIONS)}")
    return name


def one_kind(scores: Iterable[Any]) -> str:
    """The kind of scores that are to be ranked. Raises ConfigError when they are of several, which can't be compared."""
    kinds = {(one.kind, one.convention) for one in scores}
    if len(kinds) > 1:
        named = " and ".join(sorted(f"{kind} ({convention})" for kind, convention in kinds))
        raise ConfigError(f"These scores can't be ranked together: they are {named}.")
    return next(iter(kinds))[0] if kinds else ""


def perplexity(
    model: LeftModel,
    tokenizer: Tokenizer,
    documents: Iterable[str],
    *,
    stride: int | None = None,
    carry: bool = False,
    quiet: bool = True,
) -> Likelihood:
    """The likelihood of documents, each with the ``<end>`` behind it; ``quiet`` shows no progress.

    Every document is scored from the boundary on, on its own. ``carry`` reads them as one stream instead, the state going
    on from each to the next, as published results for Penn Treebank do (families that carry a state only).
    """
    total = Likelihood()
    with Progress("scoring", None, "tokens", quiet=quiet) as progress:
        for text, ids, log_probs in log_probs_of(model, tokenizer, documents, stride=stride, carry=carry):
            begin = 0
            if len(log_probs) < len(ids):  # the first token had nothing before it
                begin = int(tokenizer.encode(text).offsets[0, 1])
            total += _likelihood(tokenizer, text, begin, ids, log_probs, tokenizer.end_id is not None)
            progress.advance(len(ids), f"perplexity {total.perplexity:.2f}")
    first = "skipped" if tokenizer.end_id is None else "boundary"
    return replace(total, policy=_policy(model, first, stride, carry))


def log_probs_of(
    model: LeftModel,
    tokenizer: Tokenizer,
    documents: Iterable[str],
    *,
    stride: int | None = None,
    carry: bool = False,
) -> Iterator[tuple[str, list[int], np.ndarray]]:
    """Each document, its tokens with the ``<end>`` behind them, and their log-probabilities: see ``perplexity``."""
    if carry and not getattr(model, "carries", False):
        raise ConfigError(
            "carry needs a family that carries its state on, such as lstm, and this model has none: leave it out."
        )
    state, last = None, tokenizer.end_id
    for texts in grouped(documents):
        ids = _closed(tokenizer, texts)
        if carry:
            found, state, last = _stream(model, ids, state, last)
        else:
            opening = [] if tokenizer.end_id is None else [tokenizer.end_id]
            found = chain(model, [np.array([*opening, *one], dtype=np.int64) for one in ids], stride)
        yield from zip(texts, ids, found, strict=True)


def _policy(model: LeftModel, first: str, stride: int | None, carry: bool = False) -> str:
    """What is done with the first token, and how what is before the others is cut, in words for ``Likelihood.policy``."""
    parts = [first]
    if isinstance(model, Mixture):
        parts.append(f"interpolated, {model.weight:.4g} of the first model and {1 - model.weight:.4g} of the second")
    if carry:
        parts.append("state carried from document to document")
    elif stride is not None and model.context is not None:
        parts.append(f"windows of {model.context} tokens, stride {stride}")
    return ", ".join(parts)


def _closed(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of each text, with the boundary behind them."""
    closing = [] if tokenizer.end_id is None else [tokenizer.end_id]
    return [[*ids, *closing] for ids in tokenizer.encode_batch(texts)]


def _stream(
    model: LeftModel, ids: list[list[int]], state: Any, last: int | None
) -> tuple[list[np.ndarray], Any, int | None]:
    """Log-probabilities of each document within the stream, the state to go on with, and the token not yet read."""
    joined: Ints = np.array([token for one in ids for token in one], dtype=np.int64)
    if not len(joined):
        return [np.zeros(0) for _ in ids], state, last
    opened = joined if last is None else np.concatenate([[last], joined])
    log_probs, state = carried(model, opened, state)
    cuts = np.cumsum([len(one) for one in ids])[:-1]
    if last is None:  # the very first token has no prediction
        cuts = np.maximum(cuts - 1, 0)
    return np.split(log_probs, cuts), state, int(joined[-1])


def _likelihood(
    tokenizer: Tokenizer, text: str, begin: int, ids: list[int], log_probs: np.ndarray, closed: bool
) -> Likelihood:
    """What is to be divided by what, for the characters of ``text`` from ``begin`` on."""
    scored = text[begin:]
    spelled = ids[:-1] if closed else ids
    unknown = 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
    return Likelihood(
        log_prob=float(log_probs.sum()),
        tokens=len(log_probs),
        words=count_words(scored) + closed,
        bytes=len(scored.encode()),
        unknown=unknown,
        exact=not unknown and tokenizer.decode(spelled) == text,
    )


def _words(tokenizer: Tokenizer, ids: list[int], log_probs: list[float | None]) -> list[WordScore]:
    if not ids:
        return []
    opens = tokenizer.word_starts(ids) | np.array([token == tokenizer.end_id for token in ids])
    starts = [0, *(place for place in np.flatnonzero(opens).tolist() if opens[:place].any())]
    words = []
    for begin, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        total = sum(value for value in log_probs[begin:end] if value is not None)
        words.append(WordScore(tokenizer.decode(ids[begin:end]).strip(), total, begin, end))
    return words


def grouped(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of bounded size."""
    group: list[str] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document)
        if size >= GROUP_CHARACTERS or len(group) >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group
