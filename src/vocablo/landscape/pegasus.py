"""Pegasus (Zhang et al. 2020) as Hugging Face stores it: norms before each branch, fixed positions, sines then cosines.

Published files say relu and scaled embeddings; targets begin with padding. The tables of positions are stored.
"""

from __future__ import annotations

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX, implied

TYPES = ("pegasus",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "PegasusForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

SHAPE = {
    "position": {"kind": "sinusoidal", "layout": "halves"},
    "norm": {"place": "pre", "final": True},
    "head": {"bias": True},
}
LAYOUT = seq2seq.Layout("Pegasus", SHAPE, stored=True)
config_from, config_to, entries = LAYOUT.config_from, LAYOUT.config_to, LAYOUT.entries
