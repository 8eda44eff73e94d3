"""A GRU read from both ends over sequences of any lengths, with its gradient worked out by hand.

    r, z = sigmoid(W x_t + b + U h_(t-1) + c)       n = tanh(W x_t + b + r * p),  p = U h_(t-1) + c
    h_t = n + z * (h_(t-1) - n)

With d the gradient of h_t, that of each gate before its sigmoid or tanh is d times what the forward pass knows already:

    n: d (1 - z)(1 - n^2)       p: n's, times r       r: n's, times p r (1 - r)       z: d (h_(t-1) - n) z (1 - z)

so a step backward is one product with these factors and one with U, and the gradient of U is one product at the end. Both
directions go in one loop, longest sequences first, and a step reads those that are still going. torch's own loop over packed
sequences writes zeros for all tokens at every step backward on a CPU; on a GPU its kernel is the fast one.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from vocablo.contract import Fences
from vocablo.nn.recurrent import Packing

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def gru_both(gru: nn.GRU, x: Float[Tensor, "N D"], fences: Fences) -> Float[Tensor, "N 2*H"]:
    """States [forward; backward] of every token; ``gru`` has one layer and two directions. No sequence may be empty."""
    if x.device.type != "cpu":
        return packed(gru, x, fences)
    order, sizes = _order(fences)
    w, u, b, c = (torch.stack([gru.get_parameter(name + suffix) for suffix in ("", "_reverse")]) for name in NAMES)
    gates = torch.baddbmm(b[:, None], x[None].expand(2, -1, -1), w.transpose(1, 2))
    rows = torch.stack([gates[way].index_select(0, order[way]) for way in (0, 1)])
    states = _Gru.apply(rows, u, c, sizes)
    inverse = torch.empty_like(order)
    for way in (0, 1):
        inverse[way, order[way]] = torch.arange(len(x))
    return torch.cat([states[way].index_select(0, inverse[way]) for way in (0, 1)], dim=1)


def packed(gru: nn.GRU, x: Float[Tensor, "N D"], fences: Fences) -> Float[Tensor, "N 2*H"]:
    """The same by torch's kernel for packed sequences."""
    packing = Packing.of(fences, x.device)
    rows = PackedSequence(x.index_select(0, packing.order), packing.sizes)
    return gru(rows)[0].data.index_select(0, packing.inverse)


def _order(fences: Fences) -> tuple[Tensor, list[int]]:
    """Places [2, N] in the flat batch of what each direction reads, time by time, and how many are going at each time."""
    lengths = torch.tensor(fences.lengths)
    longest_first = torch.argsort(lengths, descending=True, stable=True)
    times = torch.arange(int(lengths.max()))[:, None]
    going = lengths[longest_first] > times  # [T, B]
    starts = torch.tensor(fences.starts()[:-1])[longest_first]
    ends = starts + lengths[longest_first] - 1
    return torch.stack([(starts + times)[going], (ends - times)[going]]), going.sum(1).tolist()


class _Gru(torch.autograd.Function):
    """gates [2, N, 3H] (W x + b, time by time), u [2, 3H, H], c [2, 3H] -> states [2, N, H]."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, u: Tensor, c: Tensor, sizes: list[int]) -> Tensor:
        ways, count, width = gates.shape[0], gates.shape[1], u.shape[2]
        states, before = (gates.new_empty(ways, count, width) for _ in range(2))
        rz, n, p = gates.new_empty(ways, count, 2 * width), torch.empty_like(states), torch.empty_like(states)
        h = gates.new_zeros(ways, sizes[0] if sizes else 0, width)
        turned, shift = u.transpose(1, 2), c[:, None]
        begin = 0
        for size in sizes:
            here = slice(begin, begin + size)
            h = h[:, :size]
            before[:, here] = h
            past = torch.baddbmm(shift, h, turned)
            p[:, here] = past[..., 2 * width :]
            gate = torch.sigmoid(gates[:, here, : 2 * width] + past[..., : 2 * width])
            rz[:, here] = gate
            new = torch.addcmul(gates[:, here, 2 * width :], gate[..., :width], past[..., 2 * width :]).tanh_()
            n[:, here] = new
            h = torch.lerp(new, h, gate[..., width:])
            states[:, here] = h
            begin += size
        ctx.save_for_backward(u, before, rz, n, p)
        ctx.sizes = sizes
        return states

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        u, before, rz, n, p = ctx.saved_tensors
        ways, count, width = n.shape
        r, z = rz[..., :width], rz[..., width:]
        of_n = (1 - z) * (1 - n * n)
        factors = torch.stack([of_n * p * r * (1 - r), (before - n) * z * (1 - z), of_n * r], dim=2)  # [2, N, 3, H]
        own = torch.empty_like(n)
        past = torch.empty_like(factors)
        carried = n.new_zeros(ways, ctx.sizes[0] if ctx.sizes else 0, width)
        begin = count
        for size in reversed(ctx.sizes):
            begin -= size
            here = slice(begin, begin + size)
            d = torch.add(upstream[:, here], carried[:, :size], out=own[:, here])
            step = torch.mul(d[:, :, None], factors[:, here], out=past[:, here])
            carried[:, :size] = torch.baddbmm(d * z[:, here], step.flatten(2), u)
        of_gates = past.clone()
        torch.mul(own, of_n, out=of_gates[:, :, 2])
        past = past.flatten(2)
        return of_gates.flatten(2), past.transpose(1, 2) @ before, past.sum(1), None
