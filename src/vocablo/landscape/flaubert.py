"""FlauBERT (Le et al. 2020) as Hugging Face stores it: XLM whose norms may stand before the parts, and with LayerDrop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _xlm
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Key
from vocablo.landscape._xlm import IGNORED, OUTSIDE, PREFIX, entries, implied
from vocablo.models.transformer import Config

TYPES = ("flaubert",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "FlaubertWithLMHeadModel", (): "FlaubertModel"}
KEYS = {**_xlm.KEYS, "layerdrop": Key("stack.layer_drop", 0.0)}
HEADS: dict[str, HeadMap] = {}
__all__ = ["ARCHITECTURES", "FAMILY", "HEADS", "IGNORED", "OUTSIDE", "PREFIX", "TYPES", "config_from", "config_to", "entries",
           "implied"]  # fmt: skip


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = _xlm.read(theirs, names, "FlauBERT", KEYS)
    fields["norm"] |= {"place": "pre" if theirs.get("pre_norm") else "post"}
    return made(fields, theirs, {*_xlm.KNOWN, "layerdrop", "pre_norm"}, "FlauBERT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that FlauBERT's layout can't say."""
    theirs = _xlm.write(config, KEYS) | {"pre_norm": config.norm.place == "pre"}
    return checked(config, theirs, config_from, entries(config), "FlauBERT")
