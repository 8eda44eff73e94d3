"""Splinter (Ram et al. 2021) as Hugging Face stores it: BERT's trunk without a pooler.

Its question-aware head (``splinter_qass``) answers questions and isn't part of the trunk; it is left out, with a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import KEYS, REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand
from vocablo.models.transformer import Config

TYPES = ("splinter",)
FAMILY = "transformer"
ARCHITECTURES = {(): "SplinterModel"}

SPLINTER_KEYS = encoders.keys(tie_word_embeddings=None)
IRRELEVANT = {"question_token_id", "tie_word_embeddings"}
PREFIX, OUTSIDE = "splinter.", ("splinter_qass.",)
WEIGHTS = (
    *encoders.tables("splinter.embeddings.", "tokens", "positions", "segments"),
    *encoders.layers("splinter.encoder.layer.{}."),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"splinter\.embeddings\.position_ids",)
LEFT_OUT = (r"splinter_qass\..*",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, SPLINTER_KEYS, REQUIRED, "Splinter") | {"head": None}
    return made(fields, theirs, {*KEYS, *REQUIRED, *IRRELEVANT, "hidden_act"}, "Splinter")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that Splinter's layout can't say."""
    theirs = encoders.write(config, SPLINTER_KEYS)
    return checked(config, theirs, config_from, entries(config), "Splinter")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand(WEIGHTS, config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored: none."""
    return {}
