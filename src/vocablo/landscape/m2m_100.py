"""M2M100 (Fan et al. 2021) and NLLB as Hugging Face stores them: norms before each branch, fairseq's fixed positions.

Sources and targets begin with a language's token. The tables of positions aren't stored.
"""

from __future__ import annotations

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX, implied

TYPES = ("m2m_100",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "M2M100ForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

KEYS = seq2seq.keys(
    vocab_size=128112, encoder_layerdrop=0.05, decoder_layerdrop=0.05, attention_dropout=0.1, scale_embedding=True
)
SHAPE = {
    "position": {"kind": "sinusoidal", "layout": "halves", "stretched": True, "offset": 2},
    "norm": {"place": "pre", "final": True},
}
LAYOUT = seq2seq.Layout("M2M100", SHAPE, KEYS, "relu")
config_from, config_to, entries = LAYOUT.config_from, LAYOUT.config_to, LAYOUT.entries
