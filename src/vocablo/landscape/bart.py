"""BART (Lewis et al. 2020) as Hugging Face stores it: norms after each branch, one more after the embeddings.

The learned tables of positions skip two rows; every logit has a bias (``final_logits_bias``, zeros in published files).
"""

from __future__ import annotations

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX, implied

TYPES = ("bart",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "BartForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

SHAPE = {
    "position": {"offset": 2},
    "norm": {"place": "post", "final": False, "embedding": True},
    "head": {"bias": True},
}
LAYOUT = seq2seq.Layout("BART", SHAPE)
config_from, config_to, entries = LAYOUT.config_from, LAYOUT.config_to, LAYOUT.entries
