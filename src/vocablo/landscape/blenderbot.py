"""Blenderbot (Roller et al. 2021) as Hugging Face stores it: norms before each branch, learned positions from row 0 on."""

from __future__ import annotations

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX, implied

TYPES = ("blenderbot",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "BlenderbotForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

KEYS = seq2seq.keys(
    vocab_size=8008, max_position_embeddings=128, encoder_layers=2, encoder_ffn_dim=10240, encoder_attention_heads=32,
    decoder_layers=24, decoder_ffn_dim=10240, decoder_attention_heads=32, d_model=2560,
)  # fmt: skip
SHAPE = {"norm": {"place": "pre", "final": True}, "head": {"bias": True}}
LAYOUT = seq2seq.Layout("Blenderbot", SHAPE, KEYS)
config_from, config_to, entries = LAYOUT.config_from, LAYOUT.config_to, LAYOUT.entries
