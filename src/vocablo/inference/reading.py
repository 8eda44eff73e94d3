"""How the verbs read: without gradients, in flat batches of bounded size, never past the context.

``chain`` is the chain rule for whole sequences, ``log p(x_i | x_<i)`` for every i from 1 on. Of a sequence that is longer
than the context it reads windows of ``context`` tokens, each ``stride`` further on. The first window scores all that it
predicts and every later one its last ``stride`` predictions, so each token is scored once and, after the first window,
with at least ``context - stride`` tokens before it. Families that carry a state read any length piece by piece.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import BothModel, Fences, LeftModel, Tokens
from vocablo.data.order import BATCH_TOKENS
from vocablo.text.tokenizer import Tokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Span = tuple[int, int, int]  # inputs from begin to end, of which those from score on have their prediction scored


@contextlib.contextmanager
def asking(model: LeftModel | BothModel) -> Iterator[None]:
    """No gradients and no dropout; a model that is being trained goes on as before afterwards."""
    training = model if isinstance(model, nn.Module) and model.training else None
    if training is not None:
        training.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training is not None:
            training.train()


def device_of(model: LeftModel | BothModel) -> torch.device:
    """Where the model's parameters are; the CPU for a family without parameters."""
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


def prompt_ids(model: LeftModel, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The boundary, if the tokenizer has one, and the tokens of a prompt. Raises DataError when that is nothing."""
    ids = tokenizer.encode(prompt).ids
    if tokenizer.end_id is not None:
        ids = [tokenizer.end_id, *ids]
    if not ids:
        raise DataError(
            "This tokenizer has no boundary that could stand before a text: give a prompt that isn't empty."
        )
    check_ids(model, ids)
    return ids


def spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """Tokens as they are shown one by one: their text, and WordPiece's with the ## of a piece that goes on with a word."""
    names = tokenizer.vocabulary if tokenizer.spelling == "wordpiece" else tokenizer.surfaces
    return tuple(names[index] for index in ids)


def check_ids(model: LeftModel | BothModel, ids: Sequence[int] | Ints) -> None:
    """Raise ConfigError when the tokenizer has tokens that the model lacks."""
    more = getattr(model, "more", ())  # words that a model which reads letters was told
    if len(ids) and max(ids) >= model.vocab + len(more):
        raise ConfigError(
            f"The tokenizer gave the id {max(ids)} and the model has a vocabulary of {model.vocab}: "
            "they don't belong together."
        )


def flat(sequences: Sequence[Ints], device: torch.device | str = "cpu") -> Tokens:
    """Sequences of ids as one flat batch."""
    lengths = [len(sequence) for sequence in sequences]
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(sum(lengths)) - np.repeat(starts, lengths)
    ids = torch.from_numpy(np.concatenate(sequences))
    return Tokens(ids.to(device), Fences.of(lengths, device), torch.from_numpy(positions).to(device))


def chain(model: LeftModel, sequences: Sequence[Ints], stride: int | None = None) -> list[Floats]:
    """log p(x_i | x_<i) in nats for i from 1 on, of each sequence x: one number fewer than it has tokens.

    Raises ConfigError when a sequence is longer than the context and there is no ``stride``.
    """
    results = [np.zeros(max(len(sequence) - 1, 0)) for sequence in sequences]
    short: list[tuple[int, Span]] = []
    for row, sequence in enumerate(sequences):
        check_ids(model, sequence)
        if getattr(model, "carries", False) and len(sequence) > BATCH_TOKENS:
            results[row] = carried(model, sequence, None)[0]
        else:
            short += [(row, span) for span in spans(len(results[row]), model.context, stride)]
    with asking(model):
        for group in _groups(short):
            _read(model, sequences, group, results)
    return results


def carried(model: LeftModel, sequence: Ints, state: Any) -> tuple[Floats, Any]:
    """The same for one sequence of any length that goes on from ``state``, and the state after its last input.

    The sequence's last token is predicted but not read: it is to be the first one of what comes next.
    """
    check_ids(model, sequence)
    device, parts = device_of(model), []
    with asking(model):
        for begin in range(0, len(sequence) - 1, BATCH_TOKENS):
            piece = sequence[begin : begin + BATCH_TOKENS + 1]
            hidden = model.forward(flat([piece[:-1]], device), state=state)
            state = hidden.state
            parts.append(_picked(model, hidden.states, np.arange(len(piece) - 1), piece[1:]))
    return np.concatenate(parts) if parts else np.zeros(0), state


def spans(length: int, context: int | None, stride: int | None) -> Iterator[Span]:
    """The windows in which ``length`` inputs are read; see the module's docstring."""
    if stride is not None and context is not None and not 1 <= stride <= context:
        raise ConfigError(f"stride is at least 1 and at most the model's context, {context}; got {stride}.")
    if context is None or length <= context:
        if length:
            yield 0, 0, length
        return
    if stride is None:
        raise ConfigError(
            f"The text has {length} tokens and the model reads {context}: pass --stride {max(context // 2, 1)} "
            "(stride=, in Python) to read it in overlapping windows."
        )
    yield 0, 0, context
    scored = context
    while scored < length:
        end = min(scored + stride, length)
        yield end - context, scored, end
        scored = end


def _groups(short: list[tuple[int, Span]]) -> Iterator[list[tuple[int, Span]]]:
    """Windows that go through the model together."""
    group: list[tuple[int, Span]] = []
    total = 0
    for row, span in short:
        size = span[2] - span[0]
        if group and total + size > BATCH_TOKENS:
            yield group
            group, total = [], 0
        group.append((row, span))
        total += size
    if group:
        yield group


def _read(model: LeftModel, sequences: Sequence[Ints], group: list[tuple[int, Span]], results: list[Floats]) -> None:
    inputs = [sequences[row][begin:end] for row, (begin, _, end) in group]
    targets = [sequences[row][score + 1 : end + 1] for row, (_, score, end) in group]
    starts = np.cumsum([0, *map(len, inputs)])
    at = [
        np.arange(start + score - begin, start + end - begin)
        for start, (_, (begin, score, end)) in zip(starts[:-1], group, strict=True)
    ]
    states = model.forward(flat(inputs, device_of(model))).states
    found = _picked(model, states, np.concatenate(at), np.concatenate(targets))
    for (row, (_, score, end)), part in zip(
        group, np.split(found, np.cumsum([len(one) for one in at])[:-1]), strict=True
    ):
        results[row][score:end] = part


def _picked(model: LeftModel, states: Tensor, at: Ints, ids: Ints) -> Floats:
    at_, ids_ = (torch.from_numpy(np.ascontiguousarray(values)).to(states.device) for values in (at, ids))
    return model.target_log_probs(states, at_, ids_).double().cpu().numpy()
