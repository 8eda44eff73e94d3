"""RemBERT (Chung et al. 2021) as Hugging Face stores it: narrow tables at the input, a wide matrix of its own at the output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, expand, linear
from vocablo.models.transformer import Config

TYPES = ("rembert",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "RemBertForMaskedLM", (): "RemBertModel"}

KEYS = encoders.keys(
    vocab_size=250300,
    hidden_size=1152,
    num_hidden_layers=32,
    num_attention_heads=18,
    intermediate_size=4608,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    tie_word_embeddings=None,
) | {"input_embedding_size": Key("embed.width", 256), "output_embedding_size": Key("head.width", 1664)}
REMBERT_REQUIRED = REQUIRED | {"tie_word_embeddings": False}
PREFIX, OUTSIDE = "rembert.", ("cls.",)
WEIGHTS = (
    *encoders.tables("rembert.embeddings.", "tokens", "positions", "segments"),
    *linear("rembert.encoder.embedding_hidden_mapping_in", "project"),
    *encoders.layers("rembert.encoder.layer.{}."),
)
POOLER = linear("rembert.pooler.dense", "pooler")
OUTPUT = (
    *linear("cls.predictions.dense", "head.transform.dense"),
    *linear("cls.predictions.LayerNorm", "head.transform.norm"),
    *linear("cls.predictions.decoder", "head"),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"rembert\.embeddings\.position_ids",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, REMBERT_REQUIRED, "RemBERT")
    fields["head"] |= {"tied": False}
    if "cls.predictions.decoder.weight" not in names:
        fields["head"] = None
    fields["pooler"] = "rembert.pooler.dense.weight" in names
    known = {*KEYS, *REMBERT_REQUIRED, "hidden_act", "classifier_dropout_prob"}
    return made(fields, theirs, known, "RemBERT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that RemBERT's layout can't say."""
    theirs = encoders.write(config, KEYS) | {"tie_word_embeddings": False}
    return checked(config, theirs, config_from, entries(config), "RemBERT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    return expand(weights + (() if config.head is None else OUTPUT), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored: none, the output layer being its own."""
    return {}
