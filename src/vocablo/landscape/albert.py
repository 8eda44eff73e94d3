"""ALBERT (Lan et al. 2020) as Hugging Face stores it: one layer, used again and again, and tables narrower than it.

Its head beside the model, ``sentence_order``, tells whether two segments stand in their order (0) or were swapped (1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, linear
from vocablo.models.transformer import Config

TYPES = ("albert",)
FAMILY = "transformer"
ARCHITECTURES = {
    ("lm", "sentence_order"): "AlbertForPreTraining",
    ("lm",): "AlbertForMaskedLM",
    (): "AlbertModel",
}

KEYS = encoders.keys(
    vocab_size=30000,
    hidden_size=4096,
    num_attention_heads=64,
    intermediate_size=16384,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
) | {"embedding_size": Key("embed.width", 128)}
ALBERT_REQUIRED = REQUIRED | {"num_hidden_groups": 1, "inner_group_num": 1}
IRRELEVANT = {"classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"}
PREFIX, OUTSIDE = "albert.", ("predictions.", "sop_classifier.")
ATTENTION = "albert.encoder.albert_layer_groups.0.albert_layers.0."
WEIGHTS = (
    *encoders.tables("albert.embeddings.", "tokens", "positions", "segments"),
    *linear("albert.encoder.embedding_hidden_mapping_in", "project"),
    *encoders.layers(
        ATTENTION,
        ("attention.query", "attention.key", "attention.value"),
        "attention.dense",
        "attention.LayerNorm",
        "ffn",
        "ffn_output",
        "full_layer_layer_norm",
        ours="layers.0",
    ),
)
POOLER = linear("albert.pooler", "pooler")
TRANSFORM = ("predictions.dense", "predictions.LayerNorm")
TABLE, BIAS, DECODER = "albert.embeddings.word_embeddings.weight", "predictions.bias", "predictions.decoder"
HEADS = {"sentence_order": HeadMap(linear("sop_classifier.classifier"))}
IGNORED = (r"albert\.embeddings\.(position_ids|token_type_ids)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, ALBERT_REQUIRED, "ALBERT", ("hidden_act", "gelu_new"))
    fields["stack"] |= {"shared": True}
    if BIAS not in names:
        fields["head"] = None
    fields["pooler"] = "albert.pooler.weight" in names
    return made(fields, theirs, {*KEYS, *ALBERT_REQUIRED, *IRRELEVANT, "hidden_act"}, "ALBERT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that ALBERT's layout can't say."""
    return checked(config, encoders.write(config, KEYS), config_from, entries(config), "ALBERT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    return [*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)]


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
