"""What a frozen model knows, layer by layer, and a BiLSTM that learns on top of it (Devlin et al. 2019, table 7).

embeddings, last, second-to-last     one layer
concat-last-4                        [x_(L-3); x_(L-2); x_(L-1); x_L]
weighted-last-4, weighted-all        g sum_l softmax(s)_l x_l, with s and g learnt (Peters et al. 2018, eq. 1)

The layers count from 1; 0 are the embeddings as the first layer reads them, which ``weighted-all`` leaves out, as that
paper does, but for ELMo, whose own paper has them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from vocablo.base.errors import ConfigError, nearest
from vocablo.contract import Fences
from vocablo.nn.dropout import dropout
from vocablo.nn.recurrent import Packing

CHOICES = ("embeddings", "last", "second-to-last", "weighted-last-4", "concat-last-4", "weighted-all")


def layers_of(choice: str, depth: int, bottom: int = 1) -> tuple[int, ...]:
    """The layers that a choice reads in a model of ``depth`` layers, ``bottom`` the first of all. Raises ConfigError when there are too few."""
    if choice not in CHOICES:
        raise ConfigError(f"There are no features {choice!r}{nearest(choice, CHOICES)}")
    wanted = {
        "embeddings": (0,),
        "last": (depth,),
        "second-to-last": (depth - 1,),
        "weighted-all": tuple(range(bottom, depth + 1)),
    }.get(choice, tuple(range(depth - 3, depth + 1)))
    if wanted[0] < (0 if choice in ("embeddings", "weighted-all") else 1):
        raise ConfigError(f"The features {choice!r} need more layers than the {depth} of this model.")
    return wanted


class Features(nn.Module):
    """Chosen layers of a frozen model, mixed or joined, and read by a BiLSTM of ``depth`` layers of ``hidden`` each way."""

    def __init__(self, layers: Sequence[int], concat: bool, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.keep, self.concat = tuple(layers), concat
        mixed = len(self.keep) > 1 and not concat
        self.mix = nn.Parameter(torch.zeros(len(self.keep))) if mixed else None
        self.scale = nn.Parameter(torch.ones(())) if mixed else None
        widths = [width * (len(self.keep) if concat else 1)] + [2 * hidden] * (depth - 1)
        self.lstm = nn.ModuleList(nn.LSTM(size, hidden, bidirectional=True) for size in widths)
        self.width = 2 * hidden  # of what comes out

    def forward(
        self, layers: Sequence[Float[Tensor, "N D"]], fences: Fences, p: float
    ) -> tuple[Float[Tensor, "N D2"], Float[Tensor, "B D2"]]:
        """A state of every token, and of every sequence: where the forward LSTM ends, and the backward one.

        ``layers`` are those of ``keep``; ``p`` is the dropout on what each LSTM reads.
        """
        if self.mix is not None and self.scale is not None:
            shares = self.mix.softmax(0)
            x = self.scale * torch.stack([share * layer for share, layer in zip(shares, layers, strict=True)]).sum(0)
        else:
            x = torch.cat(list(layers), dim=1) if self.concat else layers[0]
        packing = Packing.of(fences, x.device)
        for lstm in self.lstm:
            rows = PackedSequence(dropout(x, p, True).index_select(0, packing.order), packing.sizes)
            x = lstm(rows)[0].data.index_select(0, packing.inverse)
        half = self.width // 2
        ends = torch.cat(
            [x.index_select(0, fences.last())[:, :half], x.index_select(0, fences.first())[:, half:]], dim=1
        )
        return x, ends

    @property
    def part(self) -> str:
        """What a checkpoint says beside the tensors."""
        how = "concat" if self.concat else "mix"
        return f"features:{how}:{','.join(map(str, self.keep))}"

    @classmethod
    def restored(cls, part: str, tensors: Mapping[str, Tensor]) -> Features:
        """An unfilled module of the sizes that its tensors show, as ``part`` described it."""
        _, how, layers = part.split(":")
        keep = [int(layer) for layer in layers.split(",")]
        first = tensors["lstm.0.weight_ih_l0"]
        depth = len({name.split(".")[1] for name in tensors if name.startswith("lstm.")})
        concat = how == "concat"
        return cls(keep, concat, first.shape[1] // (len(keep) if concat else 1), first.shape[0] // 4, depth)
