"""FSMT (Ng et al. 2019: fairseq's WMT19 models) as Hugging Face stores it: two vocabularies, an output layer of its own.

The original Transformer with fairseq's fixed positions, whose tables are stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, require
from vocablo.landscape._seq2seq import IGNORED, OUTSIDE, PREFIX
from vocablo.models.transformer import Config

TYPES = ("fsmt",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "FSMTForConditionalGeneration"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip

KEYS = seq2seq.keys(scale_embedding=True, tie_word_embeddings=False)
del KEYS["vocab_size"]
KEYS |= {"src_vocab_size": Key("embed.vocab", 42024), "tgt_vocab_size": Key("decoder.vocab", 42024)}
SHAPE = {
    "position": {"kind": "sinusoidal", "layout": "halves", "stretched": True, "offset": 2},
    "norm": {"place": "post", "final": False},
}
KNOWN = {*KEYS, *seq2seq.IRRELEVANT, "activation_function", "langs", "vocab_size", "decoder"}
TABLE, OUTPUT = "model.decoder.embed_tokens.weight", "model.decoder.output_projection"


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    target = number(theirs, "tgt_vocab_size", 42024, "FSMT")
    fields = seq2seq.read(theirs, KEYS, SHAPE, "FSMT", ("activation_function", "relu"))
    if theirs.get("tie_word_embeddings"):  # one table for everything
        require(theirs, {"src_vocab_size": target}, "FSMT with tie_word_embeddings")
        fields["decoder"] |= {"vocab": None}
    return made(fields, theirs, KNOWN, "FSMT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that FSMT's layout can't say."""
    theirs = seq2seq.write(config, KEYS)
    theirs["tgt_vocab_size"] = theirs["tgt_vocab_size"] or config.embed.vocab
    return checked(config, theirs, config_from, entries(config), "FSMT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return seq2seq.entries(config, stored=True, table=TABLE, output=OUTPUT)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: where all tables are tied, that of targets."""
    return seq2seq.implied(config, TABLE, OUTPUT)
