"""MarianMT (Junczys-Dowmunt et al. 2018; Tiedemann and Thottingal 2020) as Hugging Face stores it.

The original Transformer with silu or relu: norms after each branch, fixed positions, sines then cosines, which newer files
don't hold. Targets begin with padding, which is never written (``bad_words_ids``). Two vocabularies where they aren't shared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, require
from vocablo.landscape._seq2seq import FIXED, OUTSIDE, PREFIX, implied
from vocablo.models.transformer import Config

TYPES = ("marian",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "MarianMTModel"}
HEADS: dict[str, HeadMap] = {}
IGNORED = (*seq2seq.IGNORED, FIXED)
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

KEYS = seq2seq.keys(vocab_size=58101)
SHAPE = {
    "position": {"kind": "sinusoidal", "layout": "halves"},
    "norm": {"place": "post", "final": False},
    "head": {"bias": True},
}
KNOWN = {*KEYS, *seq2seq.IRRELEVANT, "activation_function", "decoder_vocab_size", "share_encoder_decoder_embeddings"}


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = seq2seq.read(theirs, KEYS, SHAPE, "Marian")
    vocab = fields["embed"]["vocab"]
    if theirs.get("share_encoder_decoder_embeddings", True):
        require(theirs, {"decoder_vocab_size": vocab} if theirs.get("decoder_vocab_size") else {}, "Marian")
    else:
        fields["decoder"] |= {"vocab": theirs.get("decoder_vocab_size") or vocab}
    return made(fields, theirs, KNOWN, "Marian")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that Marian's layout can't say."""
    theirs = seq2seq.write(config, KEYS)
    two = config.decoder.vocab  # type: ignore[union-attr]
    theirs |= {"decoder_vocab_size": two or config.embed.vocab, "share_encoder_decoder_embeddings": two is None}
    return checked(config, theirs, config_from, entries(config), "Marian")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return seq2seq.entries(config)
