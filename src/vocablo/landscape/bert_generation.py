"""The encoder of BertGeneration (Rothe et al. 2020) as Hugging Face stores it: BERT without segments and pooler."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand
from vocablo.models.transformer import Config

TYPES = ("bert-generation",)
FAMILY = "transformer"
ARCHITECTURES = {(): "BertGenerationEncoder"}

KEYS = encoders.keys(
    vocab_size=50358,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    type_vocab_size=None,
    tie_word_embeddings=None,
)
PREFIX, OUTSIDE = "bert.", ("lm_head.",)
WEIGHTS = (
    *encoders.tables("bert.embeddings.", "tokens", "positions"),
    *encoders.layers("bert.encoder.layer.{}."),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"bert\.embeddings\.position_ids",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, REQUIRED, "BertGeneration") | {"head": None}
    known = {*KEYS, *REQUIRED, "hidden_act", "tie_word_embeddings"}
    return made(fields, theirs, known, "BertGeneration")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that BertGeneration's layout can't say."""
    theirs = encoders.write(config, KEYS)
    return checked(config, theirs, config_from, entries(config), "BertGeneration")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand(WEIGHTS, config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored: none."""
    return {}
