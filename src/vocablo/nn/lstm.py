"""An LSTM over parallel streams of one length, whose state goes in and out, with its gradient worked out by hand.

    i, f, o = sigmoid, g = tanh  of  a = W x_t + b + U (m * h_(t-1)) + c
    c_t = f * c_(t-1) + i * g               h_t = o * tanh(c_t)

m is 1, or a dropout mask that stays the same for all t (Gal & Ghahramani 2016). Let d be the gradient of h_t; that of c_t is
e = e_(t+1) f_(t+1) + d o (1 - tanh^2 c_t), and those of a

    i: e g i (1 - i)        f: e c_(t-1) f (1 - f)        g: e i (1 - g^2)        o: d tanh(c_t) o (1 - o)

so a step backward is a product with what the forward pass knows already, and one with U; the gradient of U is one product at
the end, where torch's own loop on a CPU makes a small one at every step. Under autocast the products are in bfloat16; the
state and all that is added up stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocablo.contract import Fences
from vocablo.nn.linear import linear


def stream(
    layer: nn.LSTM,
    x: Float[Tensor, "T B D"],
    before: tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]],
    mask: Float[Tensor, "B H"] | None = None,
) -> tuple[Float[Tensor, "T B H"], tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]]:
    """What ``layer``, of one layer and direction, gives for every position, and its state after the last one."""
    w, u, b, c = (layer.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    gates = linear(x.flatten(0, 1), w, b + c).to(u.dtype).view(*x.shape[:2], -1)
    states, h, cell = _Stream.apply(gates, u, *before, mask)  # type: ignore[misc]
    return states, (h, cell)


def by_hand(
    layer: nn.LSTM,
    x: Float[Tensor, "N D"],
    fences: Fences,
    before: tuple[Tensor, Tensor],
    mask: Float[Tensor, "B H"] | None = None,
) -> tuple[Float[Tensor, "N H"], tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]]:
    """The same for flat sequences of any lengths: up to the shortest one's end all together, then those that go on."""
    lengths = torch.tensor(fences.lengths, device=x.device)
    starts = torch.tensor(fences.starts()[:-1], device=x.device)
    h, cell = before
    parts, places, begin = [], [], 0
    for end in sorted({*fences.lengths} - {0}):
        rows = (lengths >= end).nonzero().squeeze(1)
        at = (starts[rows] + torch.arange(begin, end, device=x.device)[:, None]).flatten()  # time by time
        part = x.index_select(0, at).view(end - begin, len(rows), -1)
        own = tuple(one.index_select(0, rows) for one in (h, cell))
        states, after = stream(layer, part, own, None if mask is None else mask.index_select(0, rows))  # type: ignore[arg-type]
        h, cell = (one.index_copy(0, rows, new) for one, new in zip((h, cell), after, strict=True))
        parts.append(states.flatten(0, 1))
        places.append(at)
        begin = end
    inverse = torch.empty(len(x), dtype=torch.long, device=x.device)
    inverse[torch.cat(places)] = torch.arange(len(x), device=x.device)
    return torch.cat(parts).index_select(0, inverse), (h, cell)


class _Stream(torch.autograd.Function):
    """gates [T, B, 4H] (W x + b + c), u [4H, H], h and c [B, H], m [B, H] -> states [T, B, H], the last h and c."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, u: Tensor, h: Tensor, cell: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        length, rows, width = gates.shape[0], gates.shape[1], u.shape[1]
        autocast = torch.is_autocast_enabled(gates.device.type)
        ctx.dtype = torch.get_autocast_dtype(gates.device.type) if autocast else u.dtype
        u = u.to(ctx.dtype)
        turned = u.t()
        states, earlier, curved = (gates.new_empty(length, rows, width) for _ in range(3))
        past = gates.new_empty(length, rows, width, dtype=ctx.dtype)
        ifgo = gates.clone()
        for t in range(length):
            past[t] = h if mask is None else h * mask
            earlier[t] = cell
            gate = ifgo[t]
            gate += past[t] @ turned
            gate[:, : 2 * width].sigmoid_()
            gate[:, 2 * width : 3 * width].tanh_()
            gate[:, 3 * width :].sigmoid_()
            i, f, g, o = gate.split(width, dim=1)
            cell = torch.addcmul(f * cell, i, g)
            torch.tanh(cell, out=curved[t])
            h = torch.mul(o, curved[t], out=states[t])
        ctx.save_for_backward(u, past, earlier, ifgo, curved, mask)
        return states, h.clone(), cell

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, upstream: Tensor, of_h: Tensor, of_c: Tensor) -> tuple[Tensor | None, ...]:
        u, past, earlier, ifgo, curved, mask = ctx.saved_tensors
        length, rows, width = curved.shape
        i, f, g, o = ifgo.split(width, dim=2)
        factors = torch.stack([g * i * (1 - i), earlier * f * (1 - f), i * (1 - g * g)], dim=2)  # [T, B, 3, H]
        of_o, of_cell = curved * o * (1 - o), o * (1 - curved * curved)
        gates = curved.new_empty(length, rows, 4, width)
        carried, cells, kind = of_h, of_c, of_h.dtype
        for t in reversed(range(length)):
            d = upstream[t] + carried
            e = torch.addcmul(cells, d, of_cell[t])
            torch.mul(e[:, None], factors[t], out=gates[t, :, :3])
            torch.mul(d, of_o[t], out=gates[t, :, 3])
            carried = (gates[t].flatten(1).to(ctx.dtype) @ u).to(kind)
            carried = carried if mask is None else carried * mask
            cells = e * f[t]
        flat = gates.flatten(2).flatten(0, 1)
        before = past.flatten(0, 1)
        of_u = (flat.to(ctx.dtype).t() @ before).to(kind) if ctx.needs_input_grad[1] else None
        return flat.view(length, rows, -1), of_u, carried, cells, None
