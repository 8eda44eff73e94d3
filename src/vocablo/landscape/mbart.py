"""mBART (Liu et al. 2020), mBART-50, BARThez and BARTpho as Hugging Face stores them: BART with norms before each branch.

The norm of the embeddings stays, and each stack ends with one. Targets begin with a language's token, or with </s> and then
a language's token (mBART-50).
"""

from __future__ import annotations

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX, implied

TYPES = ("mbart",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "MBartForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

SHAPE = {
    "position": {"offset": 2},
    "norm": {"place": "pre", "final": True, "embedding": True},
    "head": {"bias": True},
}
LAYOUT = seq2seq.Layout("mBART", SHAPE)
config_from, config_to, entries = LAYOUT.config_from, LAYOUT.config_to, LAYOUT.entries
