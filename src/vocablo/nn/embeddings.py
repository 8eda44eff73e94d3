"""What a token is before the first layer: the sum of its rows in a few tables, normalised (Devlin et al. 2019, fig. 2).

    x = Project(Dropout(Norm(E[token] + P[position] + S[segment])))

Decoders have no segments and no norm here. A narrower table than the model (``embed.width``) is projected to its width, as
ALBERT and ELECTRA do.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings


class Embed(Settings):
    """The tables of tokens and segments; ``dropout`` is on the sum of all embeddings.

    ``width`` None is the model's; ``scaled`` multiplies a token's row by its square root (Vaswani et al. 2017, 3.4).
    ``segments`` is how many kinds of sentence there are (BERT: A and B); 0: no table.
    """

    vocab: int = Field(ge=1)
    width: int | None = Field(default=None, ge=1)
    scaled: bool = False
    segments: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Segments(nn.Embedding):
    """The table of segments; tokens that don't say theirs are of segment 0."""

    # pyrefly: ignore[bad-override-param-name]
    def forward(self, segments: Int[Tensor, "N"] | None) -> Float[Tensor, "N D"]:
        return self.weight[:1] if segments is None else super().forward(segments)
