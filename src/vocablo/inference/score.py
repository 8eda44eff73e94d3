"""Scores of a left-to-right model by the chain rule: log p(w_1 ... w_n) = sum_t log p(w_t | w_1 ... w_(t-1)), in nats.

The first token is given the boundary token ``<end>``, as in training; a tokenizer without one can't have it scored, and the
result says so. A text longer than the model's context is an error, unless a ``stride`` is given: then windows of the whole
context move by ``stride`` tokens, and each token is scored once, after the first window with at least ``context - stride``
tokens before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import Progress
from vocablo.contract import Fences, LeftModel, Tokens
from vocablo.measures.likelihood import Likelihood
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import count_words

AT_ONCE = 8192  # tokens of a batch: enough for full speed, little memory
BOUNDARY, SKIPPED = "given the boundary {}", "not scored (the tokenizer has no boundary token)"


@dataclass(frozen=True, slots=True)
class WordScore:
    """A word between white space and the sum over its tokens."""

    word: str
    log_prob: float


@dataclass(frozen=True, slots=True)
class Score:
    """The chain rule of one text. ``log_probs`` has one entry for each token, None for one that isn't scored.

    ``unknown`` counts unknown tokens; ``first`` states how the first token is treated.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    log_probs: tuple[float | None, ...]
    words: tuple[WordScore, ...]
    unknown: int
    first: str
    likelihood: Likelihood

    @property
    def log_prob(self) -> float:
        """The sum, in nats."""
        return self.likelihood.log_prob

    @property
    def perplexity(self) -> float:
        return self.likelihood.perplexity

    @property
    def bits_per_byte(self) -> float | None:
        return self.likelihood.bits_per_byte


def score(
    model: LeftModel, tokenizer: Tokenizer, texts: Sequence[str], *, end: bool = False, stride: int | None = None
) -> list[Score]:
    """Score each text; ``end`` adds the probability of the boundary after it.

    Raises DataError for an empty text and ConfigError for one that is longer than the context, unless there is a stride.
    """
    boundary = tokenizer.end_id
    if end and boundary is None:
        raise ConfigError("The tokenizer has no end-of-text token, so the probability of the end can't be given.")
    encodings = [tokenizer.encode(text) for text in texts]
    for text, encoding in zip(texts, encodings, strict=True):
        if not encoding.ids:
            raise DataError(f"There is nothing to score in {text!r}: give some text.")
    rows = [
        np.array(
            [*(() if boundary is None else (boundary,)), *encoding.ids, *((boundary,) if end else ())], dtype=np.int64
        )
        for encoding in encodings
    ]
    found = _log_probs(model, rows, stride)
    results = []
    for text, encoding, values in zip(texts, encodings, found, strict=True):
        ids = [*encoding.ids, *([boundary] if end and boundary is not None else [])]
        listed: list[float | None] = [*([None] if boundary is None else []), *values.tolist()]
        unknown = 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
        policy = SKIPPED if boundary is None else BOUNDARY.format(tokenizer.surface(boundary))
        likelihood = Likelihood(
            float(values.sum()),
            len(values),
            count_words(text),
            len(text.encode()),
            unknown,
            tokenizer.kind != "word",
            policy,
        )
        results.append(
            Score(
                text,
                tuple(tokenizer.surface(index) for index in ids),
                tuple(ids),
                tuple(listed),
                _words(text, encoding.offsets, listed),
                unknown,
                policy,
                likelihood,
            )
        )
    return results


def _words(text: str, offsets: np.ndarray, log_probs: Sequence[float | None]) -> tuple[WordScore, ...]:
    """Sums over the tokens of each word between white space; a token belongs to the word that its text is in."""
    spans, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        spans.append((word, at, at := at + len(word)))
    sums, number = [0.0] * len(spans), 0
    for (_, stop), log_prob in zip(offsets.tolist(), log_probs, strict=False):
        while number < len(spans) - 1 and stop > spans[number][2]:
            number += 1
        if spans:
            sums[number] += log_prob or 0.0
    return tuple(WordScore(word, total) for (word, _, _), total in zip(spans, sums, strict=True))


def perplexity(
    model: LeftModel,
    tokenizer: Tokenizer,
    documents: Iterable[str],
    *,
    stride: int | None = None,
    carry: bool = False,
    quiet: bool = True,
) -> Likelihood:
    """The likelihood of documents, each one's ``<end>`` counted as a token.

    ``stride`` None moves windows by half the context where a document is longer than it; the result's ``policy`` says so.
    ``carry`` keeps the state of a recurrent or cache model from one document to the next, as if they were one stream.
    """
    boundary = tokenizer.end_id
    if boundary is None:
        raise ConfigError("The tokenizer has no end-of-text token: documents can't be told apart.")
    if carry and not model.carries:  # type: ignore[attr-defined]
        raise ConfigError(
            "--carry needs a model that carries its state on: a recurrent one, or an n-gram with a cache."
        )
    if stride is None and model.context is not None:
        stride = max(1, model.context // 2)
    _check_stride(model, stride)
    totals = dict.fromkeys(("tokens", "words", "bytes", "unknown"), 0)
    longest = 0

    def rows() -> Iterator[np.ndarray]:
        nonlocal longest
        for text in documents:
            ids = tokenizer.encode_batch([text])[0]
            longest = max(longest, len(ids) + 1)
            totals["tokens"] += len(ids) + 1
            totals["words"] += count_words(text)
            totals["bytes"] += len(text.encode())
            totals["unknown"] += 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
            yield np.array([boundary, *ids, boundary], dtype=np.int64)

    log_prob = 0.0
    with Progress("score", None, "tokens", quiet=quiet) as progress:
        for values in _carried(model, rows()) if carry else _rolling(model, rows(), stride):
            log_prob += float(values.sum())
            progress.advance(len(values))
    if not totals["tokens"]:
        raise DataError("There is no text to score.")
    policy = f"each document is {BOUNDARY.format(tokenizer.surface(boundary))}, and its end is scored"
    if carry:
        policy = "one stream: the state is carried from document to document, and each end is scored"
    elif model.context is not None and longest > model.context and stride is not None:
        policy += f"; windows of {model.context} tokens move by {stride}"
    return Likelihood(log_prob, **totals, open_vocabulary=tokenizer.kind != "word", policy=policy)


def _log_probs(model: LeftModel, rows: Sequence[np.ndarray], stride: int | None) -> list[np.ndarray]:
    """log p of every id of each row but its first."""
    if model.context is not None and stride is None:
        for row in rows:
            if len(row) - 1 > model.context:
                raise ConfigError(
                    f"The text has {len(row) - 1} tokens and the model reads {model.context} at once: shorten it, or give a "
                    f"stride (--stride {model.context // 2}) to score it by a sliding window."
                )
    _check_stride(model, stride)
    return list(_rolling(model, iter(rows), stride))


def _check_stride(model: LeftModel, stride: int | None) -> None:
    if stride is not None and not 1 <= stride <= (model.context or math.inf):
        raise ConfigError(f"stride is from 1 to the context, {model.context}; got {stride}.")


@torch.inference_mode()
def _rolling(model: LeftModel, rows: Iterator[np.ndarray], stride: int | None) -> Iterator[np.ndarray]:
    """Row by row in order, the log-probabilities of all ids but the first; work is done in batches of many pieces."""
    waiting: list[tuple[list[np.ndarray], list[tuple[np.ndarray, int]]]] = []
    size = 0
    for row in rows:
        pieces = list(_pieces(row, model.context, stride))
        waiting.append(([], pieces))
        size += sum(len(piece) - 1 for piece, _ in pieces)
        if size >= AT_ONCE:
            yield from _flush(model, waiting)
            waiting, size = [], 0
    yield from _flush(model, waiting)


def _pieces(row: np.ndarray, context: int | None, stride: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """Windows of a row (inputs and the target behind them), each with the number of targets that are already scored."""
    length = len(row) - 1
    if context is None or length <= context:
        yield row, 0
        return
    assert stride is not None
    scored = 0
    for start in range(0, length, stride):
        stop = min(start + context, length)
        yield row[start : stop + 1], scored - start
        scored = stop
        if stop == length:
            return


def _flush(
    model: LeftModel, waiting: list[tuple[list[np.ndarray], list[tuple[np.ndarray, int]]]]
) -> Iterator[np.ndarray]:
    jobs = [(out, piece, skip) for out, pieces in waiting for piece, skip in pieces if len(piece) > 1]
    begin = 0
    while begin < len(jobs):
        stop, size = begin, 0
        while stop < len(jobs) and (size == 0 or size + len(jobs[stop][1]) <= AT_ONCE):
            size += len(jobs[stop][1])
            stop += 1
        for (out, _, skip), values in zip(
            jobs[begin:stop], _batch(model, [job[1] for job in jobs[begin:stop]]), strict=True
        ):
            out.append(values[skip:])
        begin = stop
    for out, _ in waiting:
        yield np.concatenate(out) if out else np.zeros(0)


def _batch(model: LeftModel, pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
    """log p of every target of a flat batch; one long piece of a model that carries state goes through it in parts."""
    if len(pieces) == 1 and len(pieces[0]) > AT_ONCE and getattr(model, "carries", False):
        return [np.concatenate(list(_carried(model, iter(pieces))))]
    lengths = [len(piece) - 1 for piece in pieces]
    values, _ = _forward(
        model, np.concatenate([p[:-1] for p in pieces]), np.concatenate([p[1:] for p in pieces]), lengths, None
    )
    return np.split(values, np.cumsum(lengths)[:-1])


@torch.inference_mode()
def _carried(model: LeftModel, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """One stream: the rows after one another, the state carried on, a chunk at a time."""
    state: Any = None
    for row in rows:
        for begin in range(0, len(row) - 1, AT_ONCE):
            part = row[begin : begin + AT_ONCE + 1]
            values, state = _forward(model, part[:-1], part[1:], [len(part) - 1], state)
            yield values


def _forward(
    model: LeftModel, ids: np.ndarray, targets: np.ndarray, lengths: list[int], state: Any
) -> tuple[np.ndarray, Any]:
    positions = np.concatenate([np.arange(length) for length in lengths])
    tokens = Tokens(torch.from_numpy(ids), Fences.of(lengths), torch.from_numpy(positions))
    hidden = model.forward(tokens, state=state)
    values: Tensor = model.target_log_probs(hidden.states, torch.arange(len(ids)), torch.from_numpy(targets))
    return values.double().numpy(), hidden.state
