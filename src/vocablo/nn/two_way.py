"""A GRU or LSTM read from both ends over sequences of any lengths, with gradients worked out by hand, for a CPU.

    GRU     r, z = sigmoid(a_r, a_z)    n = tanh(W x_t + b + r * p)    h_t = n + z * (h_(t-1) - n)
    LSTM    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid (a)           c_t = f * c_(t-1) + i * g        h_t = o * tanh(c_t)

with a = W x_t + b + U h_(t-1) + c of each gate, and p the second half of it, U h_(t-1) + c, of n. Let d be the gradient of h_t.
That of each a is d times what the forward pass knows already:

    GRU     n: d (1 - z)(1 - n^2)       p: n's, times r       r: n's, times p r (1 - r)       z: d (h_(t-1) - n) z (1 - z)
    LSTM    o: d tanh(c_t) o (1 - o),   and with e = e_(t+1) f_(t+1) + d o (1 - tanh^2 c_t), the gradient of c_t,
            i: e g i (1 - i)            f: e c_(t-1) f (1 - f)                                g: e i (1 - g^2)

so a step backward is a product with these factors and one with U, and the gradient of U is one product at the end. Both
directions go in one loop, longest sequences first, and a step reads those that are still going. torch's own loop over packed
sequences writes zeros for all tokens at every step backward on a CPU; on a GPU its kernel is the fast one. Under autocast the product with
x is in bfloat16, and all that goes from step to step stays in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocablo.contract import Fences

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def read_both(layer: nn.Module, x: Float[Tensor, "N D"], fences: Fences) -> Float[Tensor, "N 2*H"]:
    """States [forward; backward] of every token. ``layer`` is a bidirectional nn.GRU or nn.LSTM of one layer; no sequence may be empty."""
    order, sizes = _order(fences)
    w, u, b, c = (torch.stack([layer.get_parameter(name + way) for way in ("", "_reverse")]) for name in NAMES)
    gates = torch.baddbmm(b[:, None], x[None].expand(2, -1, -1), w.transpose(1, 2))
    rows = torch.stack([gates[way].index_select(0, order[way]) for way in (0, 1)]).to(u.dtype)
    with torch.autocast(x.device.type, enabled=False):
        states = (_Gru if isinstance(layer, nn.GRU) else _Lstm).apply(rows, u, c, sizes)
    inverse = torch.empty_like(order)
    for way in (0, 1):
        inverse[way, order[way]] = torch.arange(len(x))
    return torch.cat([states[way].index_select(0, inverse[way]) for way in (0, 1)], dim=1)


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
        states, before, n, p = (gates.new_empty(ways, count, width) for _ in range(4))
        rz = gates.new_empty(ways, count, 2 * width)
        h = gates.new_zeros(ways, sizes[0], width)
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
        r, z = rz.split(width, dim=2)
        of_n = (1 - z) * (1 - n * n)
        factors = torch.stack([of_n * p * r * (1 - r), (before - n) * z * (1 - z), of_n * r], dim=2)  # [2, N, 3, H]
        own, past = torch.empty_like(n), torch.empty_like(factors)
        carried = n.new_zeros(ways, ctx.sizes[0], width)
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


class _Lstm(torch.autograd.Function):
    """gates [2, N, 4H] (W x + b, time by time), u [2, 4H, H], c [2, 4H] -> states [2, N, H]."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, u: Tensor, c: Tensor, sizes: list[int]) -> Tensor:
        ways, count, width = gates.shape[0], gates.shape[1], u.shape[2]
        states, before, earlier, curved = (gates.new_empty(ways, count, width) for _ in range(4))
        ifgo = torch.empty_like(gates)
        h = cell = gates.new_zeros(ways, sizes[0], width)
        turned, shift = u.transpose(1, 2), c[:, None]
        begin = 0
        for size in sizes:
            here = slice(begin, begin + size)
            h, cell = h[:, :size], cell[:, :size]
            before[:, here], earlier[:, here] = h, cell
            gate = torch.baddbmm(shift, h, turned).add_(gates[:, here])
            gate[..., : 2 * width].sigmoid_()
            gate[..., 2 * width : 3 * width].tanh_()
            gate[..., 3 * width :].sigmoid_()
            ifgo[:, here] = gate
            i, f, g, o = gate.split(width, dim=2)
            cell = torch.addcmul(f * cell, i, g)
            bent = torch.tanh(cell)
            curved[:, here] = bent
            h = o * bent
            states[:, here] = h
            begin += size
        ctx.save_for_backward(u, before, earlier, ifgo, curved)
        ctx.sizes = sizes
        return states

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        u, before, earlier, ifgo, curved = ctx.saved_tensors
        ways, count, width = curved.shape
        i, f, g, o = ifgo.split(width, dim=2)
        factors = torch.stack([g * i * (1 - i), earlier * f * (1 - f), i * (1 - g * g)], dim=2)  # [2, N, 3, H]
        of_o, of_cell = curved * o * (1 - o), o * (1 - curved * curved)
        past = curved.new_empty(ways, count, 4, width)
        carried, cells = (curved.new_zeros(ways, ctx.sizes[0], width) for _ in range(2))
        begin = count
        for size in reversed(ctx.sizes):
            begin -= size
            here = slice(begin, begin + size)
            d = upstream[:, here] + carried[:, :size]
            e = torch.addcmul(cells[:, :size], d, of_cell[:, here])
            step = past[:, here]
            torch.mul(e[:, :, None], factors[:, here], out=step[:, :, :3])
            torch.mul(d, of_o[:, here], out=step[:, :, 3])
            carried[:, :size] = step.flatten(2) @ u
            torch.mul(e, f[:, here], out=cells[:, :size])
        past = past.flatten(2)
        return past, past.transpose(1, 2) @ before, past.sum(1), None
