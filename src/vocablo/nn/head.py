"""log p of given targets under a softmax over the vocabulary, without ever making the N x V matrix of logits whole.

    log p(v | h) = w_v . h + b_v - log sum_u exp(w_u . h + b_u)

The forward pass goes over chunks of targets. While a chunk's logits exist, their gradient (one-hot minus softmax) exists
too, so both matrix products of the backward pass are made on the spot, for an upstream gradient of one. The backward pass
then only scales them, which is right whenever every target has the same upstream gradient: a sum over targets, as losses
here are. Autograd hands such a gradient over as one number expanded, which its stride of 0 shows without looking at the
values; for any other gradient the chunks are computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_BYTES = 16 << 20  # of logits: small enough to stay in a shared cache, large enough for a full-speed product


def target_log_probs(
    states: Float[Tensor, "N D"],
    at: Int[Tensor, "M"] | None,
    ids: Int[Tensor, "M"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, "V"] | None = None,
) -> Float[Tensor, "M"]:
    """log p(ids[m] | states[at[m]]) in nats, float32. ``at`` None means every state in order (M = N)."""
    chosen = states if at is None else states.index_select(0, at)
    if torch.is_autocast_enabled(chosen.device.type):
        chosen, weight = (x.to(torch.get_autocast_dtype(chosen.device.type)) for x in (chosen, weight))
    elif chosen.dtype != weight.dtype:
        chosen = chosen.to(weight.dtype)
    return _TargetLogProbs.apply(chosen, ids, weight, bias)  # type: ignore[no-any-return]


def _chunks(count: int, vocab: int) -> range:
    return range(0, count, max(16, CHUNK_BYTES // (4 * vocab)))


class _TargetLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, ids: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        count, vocab = len(ids), weight.shape[0]
        result = torch.empty(count, dtype=torch.float32, device=states.device)
        needed = ctx.needs_input_grad[0] or ctx.needs_input_grad[2]
        grad_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        grad_bias = (
            torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[3] else None
        )
        chunks = _chunks(count, vocab)
        for begin in chunks:
            rows = slice(begin, begin + chunks.step)
            logits, picked = _log_softmax(states[rows], ids[rows], weight, bias)
            result[rows] = picked
            if needed:
                _accumulate(logits, ids[rows], states[rows], weight, (rows, grad_states, grad_weight, grad_bias), None)
        ctx.save_for_backward(states, ids, weight, bias, grad_states, grad_weight, grad_bias)
        return result

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        states, ids, weight, bias, grad_states, grad_weight, grad_bias = ctx.saved_tensors
        if len(ids) == 0 or upstream.stride() == (0,):
            scale = upstream[:1].sum()
            return (
                None if grad_states is None else grad_states * scale.to(grad_states.dtype),
                None,
                None if grad_weight is None else (grad_weight * scale).to(weight.dtype),
                None if grad_bias is None else (grad_bias * scale).to(bias.dtype),
            )
        grad_states = None if grad_states is None else torch.empty_like(states)
        grad_weight = None if grad_weight is None else torch.zeros_like(grad_weight)
        grad_bias = None if grad_bias is None else torch.zeros_like(grad_bias)
        chunks = _chunks(len(ids), weight.shape[0])
        for begin in chunks:
            rows = slice(begin, begin + chunks.step)
            logits, _ = _log_softmax(states[rows], ids[rows], weight, bias)
            into = (rows, grad_states, grad_weight, grad_bias)
            _accumulate(logits, ids[rows], states[rows], weight, into, upstream[rows])
        return (
            grad_states,
            None,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
        )


def _log_softmax(states: Tensor, ids: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities [m, V] in float32 of one chunk, and those of its targets [m]."""
    logits = torch.nn.functional.linear(states, weight, None if bias is None else bias.to(weight.dtype)).float()
    logits = torch.log_softmax(logits, dim=1)
    return logits, logits.gather(1, ids[:, None]).squeeze(1)


def _accumulate(
    log_probs: Tensor,
    ids: Tensor,
    states: Tensor,
    weight: Tensor,
    into: tuple[slice, Tensor | None, Tensor | None, Tensor | None],
    upstream: Tensor | None,
) -> None:
    """Add a chunk's gradients; ``log_probs`` is used up."""
    rows, grad_states, grad_weight, grad_bias = into
    delta = log_probs.exp_().neg_()
    delta.scatter_add_(1, ids[:, None], torch.ones_like(ids[:, None], dtype=delta.dtype))
    if upstream is not None:
        delta *= upstream[:, None]
    if grad_bias is not None:
        grad_bias += delta.sum(0)
    delta = delta.to(weight.dtype)
    if grad_states is not None:
        torch.mm(delta, weight, out=grad_states[rows])
    if grad_weight is not None:
        if grad_weight.dtype == delta.dtype:
            grad_weight.addmm_(delta.t(), states)
        else:
            grad_weight += delta.t() @ states
