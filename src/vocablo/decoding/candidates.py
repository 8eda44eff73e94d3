"""The best continuations of many rows, with few passes over a large vocabulary, and as a beam search's candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PIECE_BYTES = 2 << 20  # of scores: the passes over a piece stay in a core's own cache
STRANDS = 64  # scores of which only the greatest is looked at first


def normaliser(logits: Float[Tensor, "R V"]) -> Float[Tensor, "R"]:
    """log sum_v exp(logits[r, v]), piece by piece, so that no second matrix of this size is made."""
    if logits.device.type != "cpu":
        return logits.logsumexp(1)
    rows = max(1, PIECE_BYTES // (logits.element_size() * logits.shape[1]))
    if len(logits) <= rows:
        return logits.logsumexp(1)
    into, result = torch.empty_like(logits[:rows]), logits.new_empty(len(logits))
    for begin in range(0, len(logits), rows):
        piece = logits[begin : begin + rows]
        greatest = piece.amax(1)
        shifted = torch.sub(piece, greatest[:, None], out=into[: len(piece)])
        torch.add(shifted.exp_().sum(1).log_(), greatest, out=result[begin : begin + rows])
    return result


def best(logits: Float[Tensor, "R V"], k: int) -> tuple[Float[Tensor, "R K"], Int[Tensor, "R K"]]:
    """As ``logits.topk(k)``: the k greatest scores of each row, in order, and their tokens.

    The vocabulary is cut into columns of 64 scores. The k greatest scores lie in the k columns with the greatest maxima, so
    after one pass for the maxima only 64 k scores of a row are looked at.
    """
    vocab = logits.shape[1]
    columns = vocab // STRANDS
    if columns < 4 * k:
        return logits.topk(min(k, vocab), dim=1)
    strands = logits[:, : columns * STRANDS].unflatten(1, (STRANDS, columns))
    chosen = strands.amax(1).topk(k, dim=1).indices  # [R, k]
    steps = torch.arange(STRANDS, device=logits.device) * columns
    tokens = (chosen[:, :, None] + steps).flatten(1)
    if columns * STRANDS < vocab:
        rest = torch.arange(columns * STRANDS, vocab, device=logits.device)
        tokens = torch.cat([tokens, rest.expand(len(logits), -1)], 1)
    values, places = logits.gather(1, tokens).topk(k, dim=1)
    return values, tokens.gather(1, places)


@dataclass
class Candidates:
    """Continuations [P, n], best first: of which hypothesis, with which token.

    ``plain``: scores without the diversity penalty; ``logs``: what the model itself says of the token; ``met``, ``banks``: for
    constraints.
    """

    scores: Tensor
    parents: Tensor
    tokens: Tensor
    plain: Tensor
    logs: Tensor = None  # type: ignore[assignment]
    met: Tensor | None = None
    banks: Tensor | None = None


def joined(values: Tensor, tokens: Tensor, running: Tensor, width: int, count: int) -> Candidates:
    """The best of each row [P width, n] -> the best ``count`` of each problem, padded with -inf.

    ``running`` is the score of each row so far.
    """
    each = values.shape[1]
    sums = (values + running[:, None]).view(-1, width * each)
    scores, at = sums.topk(min(count, width * each), dim=1)
    tokens = tokens.view(-1, width * each).gather(1, at)
    parents = at // each
    short = count - scores.shape[1]
    if short:
        pad = torch.nn.functional.pad
        scores, tokens, parents = (
            pad(scores, (0, short), value=-math.inf),
            pad(tokens, (0, short)),
            pad(parents, (0, short)),
        )
    return Candidates(scores, parents, tokens, scores)
