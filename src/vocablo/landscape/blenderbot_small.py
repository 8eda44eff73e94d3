"""Blenderbot Small (Roller et al. 2021) as Hugging Face stores it: BART with learned positions from row 0 on.

In the decoder the norm of the embeddings is of the tokens alone; positions are added after it.
"""

from __future__ import annotations

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX, implied

TYPES = ("blenderbot-small",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "BlenderbotSmallForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

KEYS = seq2seq.keys(
    d_model=512,
    max_position_embeddings=512,
    encoder_layers=8,
    encoder_ffn_dim=2048,
    decoder_layers=8,
    decoder_ffn_dim=2048,
)
SHAPE = {
    "norm": {"place": "post", "final": False, "embedding": True},
    "decoder": {"before_positions": True},
    "head": {"bias": True},
}
LAYOUT = seq2seq.Layout("BlenderbotSmall", SHAPE, KEYS)
config_from, config_to, entries = LAYOUT.config_from, LAYOUT.config_to, LAYOUT.entries
