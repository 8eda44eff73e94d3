"""Recurrent stacks over flat tokens: torch's fused kernels for speed, the recurrences written out for reading.

    Elman (1990)                        h_t = tanh(W x_t + b + U h_(t-1) + c)
    GRU (Cho et al. 2014)               r, z = sigmoid(W x_t + b + U h_(t-1) + c)
                                        n = tanh(W x_t + b + r * (U h_(t-1) + c))       h_t = (1 - z) * n + z * h_(t-1)
    LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000)
                                        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid (W x_t + b + U h_(t-1) + c)
                                        c_t = f * c_(t-1) + i * g                       h_t = o * tanh(c_t)

Each equation has weights of its own for each gate; torch keeps them in one matrix, in the order of the left-hand sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from vocablo.contract import Fences
from vocablo.nn.dropout import Dropout, dropout
from vocablo.nn.lstm import by_hand
from vocablo.nn.two_way import read_both
from vocablo.nn.within import members

Kind = Literal["elman", "gru", "lstm"]
WIDE = 512  # units from which on products in bfloat16 save more than a loop in Python costs
MODULES = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class RecurrentState:
    """What a stack carries on: one [B, D] tensor for each layer, and the cells as well for an LSTM."""

    hidden: tuple[Tensor, ...]
    cells: tuple[Tensor, ...] = ()

    def select(self, rows: Int[Tensor, "B2"]) -> RecurrentState:
        """The state of the given rows, in that order; repeats allowed."""
        pick = lambda parts: tuple(part.index_select(0, rows) for part in parts)  # noqa: E731
        return RecurrentState(pick(self.hidden), pick(self.cells))

    def rows(self, which: slice) -> RecurrentState:
        """The state of some neighbouring rows."""
        return RecurrentState(tuple(part[which] for part in self.hidden), tuple(part[which] for part in self.cells))

    @classmethod
    def joined(cls, states: Sequence[RecurrentState]) -> RecurrentState:
        """The rows of one state after another."""
        join = lambda parts: tuple(torch.cat(layer) for layer in zip(*parts, strict=True))  # noqa: E731
        return cls(join([state.hidden for state in states]), join([state.cells for state in states]))


def held(x: Float[Tensor, "N D"], fences: Fences, p: float, training: bool) -> Float[Tensor, "N D"]:
    """Dropout whose mask stays the same for all positions of a sequence (Gal & Ghahramani 2016)."""
    if not training or p == 0:
        return x
    masks = dropout(x.new_ones(fences.count, x.shape[1]), p, True)
    return x * masks.index_select(0, members(fences, x.device))


class RecurrentStack(nn.Module):
    """Layers of one kind, dropout between them on the non-recurrent connections only (Zaremba et al. 2014).

    ``variational`` (LSTM only) draws one mask for all positions of a sequence, and one for the recurrent connections of each
    layer too (Gal & Ghahramani 2016).
    """

    def __init__(
        self, kind: Kind, width: int, hidden: int, layers: int, dropout: float, variational: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.hidden, self.variational = kind, hidden, variational
        widths = [width] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList(MODULES[kind](size, hidden) for size in widths)
        self.drop = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "N D"], fences: Fences, state: RecurrentState | None, seen: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "N D2"], RecurrentState]:
        """Outputs of the last layer for every token, and the state after each sequence's last one.

        ``seen`` is given the outputs of every layer, for those who look inside.
        """
        state = self.zero(fences.count, x) if state is None else state
        if not len(x):
            return x.new_zeros(0, self.hidden), state
        drops = self.training and self.variational and self.drop.p > 0
        half = torch.is_autocast_enabled(x.device.type) and x.device.type == "cpu" and self.hidden >= WIDE
        own = drops or (self.kind == "lstm" and torch.is_grad_enabled() and half)
        packing = None if own or fences.equal is not None else Packing.of(fences, x.device)
        hidden, cells = [], []
        for number, layer in enumerate(self.layers):
            before = (state.hidden[number], state.cells[number]) if self.kind == "lstm" else (state.hidden[number],)
            if number:
                x = held(x, fences, self.drop.p, drops) if self.variational else self.drop(x)
            if own:
                mask = dropout(x.new_ones(fences.count, self.hidden), self.drop.p, True) if drops else None
                x, after = by_hand(layer, x, fences, before, mask)  # type: ignore[arg-type]
            else:
                x, after = _run(layer, x, fences, packing, before)
            hidden.append(after[0])
            cells += after[1:]
            if seen is not None:
                seen.append(x)
        return x, RecurrentState(tuple(hidden), tuple(cells))

    def zero(self, count: int, like: Tensor) -> RecurrentState:
        """The state before anything was read."""
        zeros = tuple(like.new_zeros(count, self.hidden) for _ in self.layers)
        return RecurrentState(zeros, zeros if self.kind == "lstm" else ())


class TwoWayStack(nn.Module):
    """Layers of one kind that each read their input from both ends (Schuster & Paliwal 1997).

    The outputs of a layer's two directions are joined, [forward; backward], and are what the next layer reads. There is no
    state to go on with: a backward direction begins where its sequence ends. Without layers what goes in comes out.
    """

    def __init__(self, kind: Kind, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.kind, self.hidden = kind, hidden
        widths = ([width] + [2 * hidden] * (layers - 1))[:layers]
        self.layers = nn.ModuleList(MODULES[kind](size, hidden, bidirectional=True) for size in widths)
        self.drop = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "N D"], fences: Fences, seen: list[Tensor] | None = None
    ) -> Float[Tensor, "N 2*H"]:
        """Outputs of the last layer for every token; ``seen`` is given those of every layer."""
        if not len(x):
            return x.new_zeros(0, 2 * self.hidden if len(self.layers) else x.shape[1])
        found = outputs(self.layers, x, fences, self.drop)
        if seen is not None:
            seen += found
        return found[-1] if found else x


def outputs(
    layers: Iterable[nn.Module], x: Float[Tensor, "N D"], fences: Fences, drop: nn.Module
) -> list[Float[Tensor, "N D2"]]:
    """What each layer gives for every token of whole sequences, each read from zero; ``drop`` is between them."""
    packing, found = None, []
    for number, layer in enumerate(layers):
        x = drop(x) if number else x
        both = isinstance(layer, (nn.GRU, nn.LSTM)) and layer.bidirectional
        if both and fences.equal is None and x.device.type == "cpu" and 0 not in fences.lengths:
            x = read_both(layer, x, fences)
        else:
            packing = Packing.of(fences, x.device) if packing is None and fences.equal is None else packing
            x = _run(layer, x, fences, packing, ())[0]
        found.append(x)
    return found


@dataclass(frozen=True)
class Packing:
    """Sequences of unequal length, longest first and time by time, as torch's packed kernels read them."""

    order: Tensor  # [N]: place in the packed rows -> place in the flat batch
    inverse: Tensor
    sizes: Tensor  # [T]: sequences that are still going at each time; on the host
    sorted: Tensor  # [B]
    unsorted: Tensor

    @classmethod
    def of(cls, fences: Fences, device: torch.device) -> Packing:
        lengths = torch.tensor(fences.lengths)
        longest_first = torch.argsort(lengths, descending=True, stable=True)
        times = torch.arange(int(lengths.max()))
        going = lengths[longest_first][None, :] > times[:, None]  # [T, B]
        starts = torch.tensor(fences.starts()[:-1])[longest_first]
        order = (starts[None, :] + times[:, None])[going].to(device)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order), device=device)
        unsorted = torch.argsort(longest_first)
        return cls(order, inverse, going.sum(1), longest_first.to(device), unsorted.to(device))


def _run(
    layer: nn.Module, x: Tensor, fences: Fences, packing: Packing | None, before: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if packing is None:
        length = fences.equal or 0
        times = x.view(fences.count, length, -1).transpose(0, 1)
        output, after = layer(times, _pack_state(before))
        return output.transpose(0, 1).reshape(x.shape[0], -1), _unpack_state(after)
    rows = PackedSequence(x.index_select(0, packing.order), packing.sizes)
    going = int(packing.sizes[0])  # sequences without tokens stand last, and their state stays
    before = tuple(part.index_select(0, packing.sorted) for part in before)
    output, after = layer(rows, _pack_state(tuple(part[:going] for part in before)))
    whole = [torch.cat([part, was[going:]]) for part, was in zip(_unpack_state(after), before, strict=False)]
    return output.data.index_select(0, packing.inverse), tuple(part.index_select(0, packing.unsorted) for part in whole)


def _pack_state(parts: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...] | None:
    if not parts:
        return None  # from zero, in however many directions
    return parts[0][None] if len(parts) == 1 else tuple(part[None] for part in parts)


def _unpack_state(after: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (after[0],) if isinstance(after, Tensor) else tuple(part[0] for part in after)


def explained_both(stack: TwoWayStack, x: Float[Tensor, "T D"]) -> Float[Tensor, "T 2*H"]:
    """The same for one sequence read from both ends: the backward direction is a forward one over the sequence reversed."""
    for layer in stack.layers:
        halves = []
        for suffix in ("", "_reverse"):
            one = RecurrentStack(stack.kind, x.shape[1], stack.hidden, 1, 0.0)
            own = {
                name.removesuffix("_reverse"): p
                for name, p in layer.named_parameters()
                if name.endswith(f"_l0{suffix}")
            }
            one.layers[0].load_state_dict(own)
            found = explained(one, x.flip(0) if suffix else x, one.zero(1, x))
            halves.append(found.flip(0) if suffix else found)
        x = torch.cat(halves, dim=1)
    return x


def turn(
    kind: Kind, layer: nn.Module, given: Float[Tensor, "B G"], h: Float[Tensor, "B D"], cell: Tensor | None
) -> tuple[Float[Tensor, "B D"], Tensor | None]:
    """One step of a layer, for those whose input depends on the step before: ``given`` is W x_t + b, of all gates."""
    past = nn.functional.linear(h, layer.get_parameter("weight_hh_l0"), layer.get_parameter("bias_hh_l0"))
    if kind == "gru":
        width = h.shape[1]
        r, z = torch.sigmoid(given[:, : 2 * width] + past[:, : 2 * width]).chunk(2, 1)
        n = torch.tanh(given[:, 2 * width :] + r * past[:, 2 * width :])
        return torch.lerp(n, h, z), None
    if kind == "elman" or cell is None:
        return torch.tanh(given + past), None
    i, f, g, o = (given + past).chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def explained(stack: RecurrentStack, x: Float[Tensor, "T D"], state: RecurrentState) -> Float[Tensor, "T D2"]:
    """The recurrences step by step for one sequence, without dropout: what ``RecurrentStack`` computes, to be read."""
    for number, layer in enumerate(stack.layers):
        w, u, b, c = (layer.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h = state.hidden[number][0]
        cell = state.cells[number][0] if state.cells else torch.zeros_like(h)
        outputs = []
        for x_t in x:
            now, past = w @ x_t + b, u @ h + c
            if stack.kind == "elman":
                h = torch.tanh(now + past)
            elif stack.kind == "gru":
                (r, z, n), (r2, z2, n2) = now.chunk(3), past.chunk(3)
                r, z = torch.sigmoid(r + r2), torch.sigmoid(z + z2)
                n = torch.tanh(n + r * n2)
                h = (1 - z) * n + z * h
            else:
                i, f, g, o = (now + past).chunk(4)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(cell)
            outputs.append(h)
        x = torch.stack(outputs)
    return x
