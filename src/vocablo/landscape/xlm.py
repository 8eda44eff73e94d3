"""XLM (Lample and Conneau 2019) as Hugging Face stores it: an encoder with a plain tied output layer.

Positions are learned or interleaved sines and cosines. Models with language embeddings are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _xlm
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._xlm import IGNORED, OUTSIDE, PREFIX, entries, implied
from vocablo.models.transformer import Config

TYPES = ("xlm",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "XLMWithLMHeadModel", (): "XLMModel"}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    return made(_xlm.read(theirs, names, "XLM"), theirs, _xlm.KNOWN, "XLM")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that XLM's layout can't say."""
    return checked(config, _xlm.write(config), config_from, entries(config), "XLM")
