"""RoFormer (Su et al. 2021) as Hugging Face stores it: BERT whose queries and keys (and values, on request) are rotated.

Neighbouring dimensions make a pair. There is no table of positions: their ``embed_positions``, sines then cosines, is fixed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, expand, linear
from vocablo.models.transformer import Config

TYPES = ("roformer",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "RoFormerForMaskedLM", (): "RoFormerModel"}

KEYS = encoders.keys(vocab_size=50000, max_position_embeddings=1536) | {
    "rotary_value": Key("position.on_values", False)
}
PREFIX, OUTSIDE = "roformer.", ("cls.",)
WEIGHTS = (
    *encoders.tables("roformer.embeddings.", "tokens", "segments"),
    Entry("roformer.encoder.embed_positions.weight", "rotary.table", optional=True),
    *encoders.layers("roformer.encoder.layer.{}."),
)
PROJECT = linear("roformer.embeddings_project", "project")
TRANSFORM = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
TABLE, BIAS = "roformer.embeddings.word_embeddings.weight", "cls.predictions.bias"
DECODER = "cls.predictions.decoder"
HEADS: dict[str, HeadMap] = {}
IGNORED = ()


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, REQUIRED, "RoFormer")
    width = theirs.get("embedding_size")
    fields["embed"] |= {"width": None if width == fields["stack"]["width"] else width}
    fields["position"] |= {"kind": "rotary"}
    if BIAS not in names:
        fields["head"] = None
    return made(fields, theirs, {*KEYS, *REQUIRED, "hidden_act", "embedding_size"}, "RoFormer")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that RoFormer's layout can't say."""
    theirs = encoders.write(config, KEYS) | {"embedding_size": config.embed.width or config.stack.width}
    return checked(config, theirs, config_from, entries(config), "RoFormer")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (() if config.embed.width is None else PROJECT)
    return expand((*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
