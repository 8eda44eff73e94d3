"""log p of given targets under a softmax over the vocabulary, without ever making the N x V matrix of logits whole.

    log p(v | h) = w_v . h + b_v - log sum_u exp(w_u . h + b_u)

The forward pass goes over chunks of targets. While a chunk's logits exist, their gradient (one-hot minus softmax) exists
too, so both matrix products of the backward pass are made on the spot, for an upstream gradient of one. The backward pass
then only scales them, which is right whenever every target has the same upstream gradient: a sum over targets, as losses
here are. Autograd hands such a gradient over as one number expanded, which its stride of 0 shows without looking at the
values; for any other gradient the chunks are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.nn.linear import product

CHUNK_BYTES = 16 << 20  # of logits: small enough to stay in a shared cache, large enough for a full-speed product
PIECE_BYTES = 2 << 20  # of a chunk: the passes of the softmax over it stay in a core's own cache


def target_log_probs(
    states: Float[Tensor, "N D"],
    at: Int[Tensor, "M"] | None,
    ids: Int[Tensor, "M"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, "V"] | None = None,
) -> Float[Tensor, "M"]:
    """log p(ids[m] | states[at[m]]) in nats, float32. ``at`` None means every state in order (M = N)."""
    return smoothed_log_probs(states, at, ids, weight, bias, 0.0)[0]


def smoothed_log_probs(
    states: Float[Tensor, "N D"],
    at: Int[Tensor, "M"] | None,
    ids: Int[Tensor, "M"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, "V"] | None,
    smoothing: float,
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """sum_v q(v) log p(v | states[at[m]]), and log p(ids[m] | the same) without a gradient; in nats, float32.

    q has 1 - ``smoothing`` on the target and the rest spread evenly over all V (label smoothing, Szegedy et al. 2016; the
    loss of Vaswani et al. 2017 is the KL divergence from q, which differs by q's entropy, a constant).
    """
    chosen = states if at is None else states.index_select(0, at)
    if torch.is_autocast_enabled(chosen.device.type):
        chosen, weight = (x.to(torch.get_autocast_dtype(chosen.device.type)) for x in (chosen, weight))
    elif chosen.dtype != weight.dtype:
        chosen = chosen.to(weight.dtype)
    plain = torch.empty(len(ids) if smoothing else 0, dtype=torch.float32, device=states.device)
    work = _Work(smoothing, plain)
    if torch.is_grad_enabled():
        result = _TargetLogProbs.apply(chosen, ids, weight, bias, work)
    else:  # an autograd function is told that parameters need gradients even then
        none = _Gradients(chosen, weight, bias, (False, False, False))
        result = _over_chunks(chosen, ids, weight, bias, None, none, work)
    return result, plain if smoothing else result.detach()  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class _Work:
    """How much of a target's probability is spread over the vocabulary, and where its own log p is put then."""

    smoothing: float
    plain: Tensor


def _chunks(count: int, weight: Tensor) -> range:
    return range(0, count, max(16, CHUNK_BYTES // (weight.element_size() * weight.shape[0])))


class _Gradients:
    """Where the gradients of a sum of log-probabilities are gathered, chunk by chunk; None for those not asked for."""

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor | None, needed: Sequence[bool]) -> None:
        self.states = torch.empty_like(states) if needed[0] else None
        self.weight = torch.zeros_like(weight, dtype=torch.float32) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needed[2] else None

    @property
    def needed(self) -> bool:
        return self.states is not None or self.weight is not None

    def add(self, rows: slice, excess: Tensor, states: Tensor, weight: Tensor) -> None:
        """``excess`` [m, V] is softmax minus one-hot: minus the gradient of the chunk's logits."""
        if self.bias is not None:
            self.bias -= excess.sum(0, dtype=torch.float32)
        if self.states is not None:
            torch.neg(product(excess, weight.t()), out=self.states[rows])
        if self.weight is not None:
            if self.weight.dtype == excess.dtype:
                self.weight.addmm_(excess.t(), states, alpha=-1)
            else:
                self.weight -= excess.t() @ states


class _TargetLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, ids: Tensor, weight: Tensor, bias: Tensor | None, work: _Work) -> Tensor:
        needs = ctx.needs_input_grad
        grads = _Gradients(states, weight, bias, (needs[0], needs[2], needs[3]))
        ctx.work = work
        result = _over_chunks(states, ids, weight, bias, None, grads, work)
        ctx.save_for_backward(states, ids, weight, bias, grads.states, grads.weight, grads.bias)
        return result

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None, None]:
        states, ids, weight, bias, grad_states, grad_weight, grad_bias = ctx.saved_tensors
        if len(ids) and upstream.stride() != (0,):
            needs = ctx.needs_input_grad
            grads = _Gradients(states, weight, bias, (needs[0], needs[2], needs[3]))
            _over_chunks(states, ids, weight, bias, upstream, grads, ctx.work)
            grad_states, grad_weight, grad_bias = grads.states, grads.weight, grads.bias
            scale = torch.ones((), device=states.device)
        else:
            scale = upstream[:1].sum()
        return (
            None if grad_states is None else grad_states * scale.to(grad_states.dtype),
            None,
            None if grad_weight is None else (grad_weight * scale).to(weight.dtype),
            None if grad_bias is None else (grad_bias * scale).to(bias.dtype),
            None,
        )


def _over_chunks(
    states: Tensor,
    ids: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    upstream: Tensor | None,
    grads: _Gradients,
    work: _Work,
) -> Tensor:
    """Log-probabilities of the targets [M], float32, and on the way the gradients, each row weighted by ``upstream``."""
    vocab, smoothing = weight.shape[0], work.smoothing
    result = torch.empty(len(ids), dtype=torch.float32, device=states.device)
    piece = max(8, PIECE_BYTES // (4 * vocab))
    chunks = _chunks(len(ids), weight)
    for begin in chunks:
        rows = slice(begin, begin + chunks.step)
        logits = product(states[rows], weight, None if bias is None else bias.to(weight.dtype))
        for at in range(0, len(logits), piece):
            part, here = logits[at : at + piece], slice(begin + at, begin + min(at + piece, len(logits)))
            target = ids[here, None]
            values = torch.log_softmax(part.float(), dim=1)
            found = values.gather(1, target).squeeze(1)
            if smoothing:
                work.plain[here] = found
                found = (1 - smoothing) * found + smoothing * values.mean(1)
            result[here] = found
            if grads.needed:
                values.exp_().scatter_add_(1, target, values.new_full(target.shape, smoothing - 1.0))
                if smoothing:
                    values -= smoothing / vocab
                if upstream is not None:
                    values *= upstream[here, None]
                part.copy_(values)
        if grads.needed:
            grads.add(rows, logits, states[rows], weight)
    return result
