"""An LSTM with many cells and a narrow output, both clipped (Sak et al. 2014; as Jozefowicz et al. 2016 and ELMo have it).

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid (W x_t + b + U h_(t-1))
    c_t = clip(f * c_(t-1) + i * g)                 h_t = clip(P (o * tanh(c_t)))

The clips, which torch's kernels don't have, keep the state within bounds over text of any length. Time goes step by step here.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vocablo.contract import Fences
from vocablo.nn.recurrent import Packing, RecurrentState


class ProjectedLSTM(nn.Module):
    """One layer in one direction; its face is that of ``RecurrentStack``. ``clip`` None: no limit."""

    def __init__(self, width: int, cells: int, out: int, clip: float | None) -> None:
        super().__init__()
        self.hidden, self.cells, self.clip = out, cells, clip
        self.input = nn.Linear(width, 4 * cells)
        self.recurrent = nn.Linear(out, 4 * cells, bias=False)
        self.projection = nn.Linear(cells, out, bias=False)
        with torch.no_grad():
            self.input.bias[cells : 2 * cells] = 1.0  # remember at first (Gers et al. 2000)

    def forward(
        self, x: Float[Tensor, "N D"], fences: Fences, state: RecurrentState | None
    ) -> tuple[Float[Tensor, "N D2"], RecurrentState]:
        """Outputs of every token, and the state after each sequence's last one."""
        before = self.zero(fences.count, x) if state is None else state
        if not len(x):
            return x.new_zeros(0, self.hidden), before
        packing = Packing.of(fences, x.device)
        h, c = (part[0].index_select(0, packing.sorted) for part in (before.hidden, before.cells))
        outputs, ended = [], []
        inputs = self.input(x.index_select(0, packing.order))
        for now in inputs.split(packing.sizes.tolist()):
            going = len(now)
            if going < len(h):
                ended.append((h[going:], c[going:]))
                h, c = h[:going], c[:going]
            i, f, g, o = (now + self.recurrent(h)).chunk(4, dim=1)
            c = self._clipped(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
            h = self._clipped(self.projection(torch.sigmoid(o) * torch.tanh(c)))
            outputs.append(h)
        last = [torch.cat(parts).index_select(0, packing.unsorted) for parts in zip((h, c), *ended[::-1], strict=True)]
        return torch.cat(outputs).index_select(0, packing.inverse), RecurrentState((last[0],), (last[1],))

    def zero(self, count: int, like: Tensor) -> RecurrentState:
        """The state before anything was read."""
        return RecurrentState((like.new_zeros(count, self.hidden),), (like.new_zeros(count, self.cells),))

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)
