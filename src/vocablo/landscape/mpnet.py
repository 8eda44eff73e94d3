"""MPNet (Song et al. 2020) as Hugging Face stores it: RoBERTa's positions, and a bias for distances that all layers share.

There are no segments. The distances have 32 buckets, whatever the configuration says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear
from vocablo.models.transformer import Config

TYPES = ("mpnet",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "MPNetForMaskedLM", (): "MPNetModel"}

KEYS = encoders.keys(vocab_size=30527, max_position_embeddings=None, type_vocab_size=None)
MPNET_REQUIRED = REQUIRED | {"relative_attention_num_buckets": 32}
PAD = 1  # positions are counted from the next number on
PREFIX, OUTSIDE = "mpnet.", ("lm_head.",)
WEIGHTS = (
    *encoders.tables("mpnet.embeddings.", "tokens", "positions"),
    Entry("mpnet.encoder.relative_attention_bias.weight", "distances.weight"),
    *encoders.layers(
        "mpnet.encoder.layer.{}.",
        ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        "attention.attn.o",
        "attention.LayerNorm",
    ),
)
POOLER = linear("mpnet.pooler.dense", "pooler")
TRANSFORM = ("lm_head.dense", "lm_head.layer_norm")
TABLE, BIAS, DECODER = "mpnet.embeddings.word_embeddings.weight", "lm_head.bias", "lm_head.decoder"
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"mpnet\.embeddings\.position_ids",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, MPNET_REQUIRED, "MPNet")
    longest = number(theirs, "max_position_embeddings", 512, "MPNet") - PAD - 1
    fields["position"] = {"offset": PAD + 1, "max": longest, "buckets": 32, "distance": 128}
    fields["head"] |= {"activation": "gelu"}  # whatever hidden_act says
    if BIAS not in names:
        fields["head"] = None
    fields["pooler"] = "mpnet.pooler.dense.weight" in names
    known = {*KEYS, *MPNET_REQUIRED, "hidden_act", "max_position_embeddings"}
    return made(fields, theirs, known, "MPNet")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that MPNet's layout can't say."""
    theirs = encoders.write(config, KEYS)
    theirs |= {"max_position_embeddings": config.position.max + PAD + 1, "pad_token_id": PAD}
    return checked(config, theirs, config_from, entries(config), "MPNet")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    return expand((*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
