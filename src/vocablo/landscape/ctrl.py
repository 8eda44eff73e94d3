"""CTRL (Keskar et al. 2019) as Hugging Face stores it: fixed sines, then cosines, under token rows times sqrt(D).

Its first token is a control code. The tied output layer has a bias; the table of positions isn't stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _decoders as decoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear, unstored
from vocablo.models.transformer import Config

TYPES = ("ctrl",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "CTRLLMHeadModel"}

SIZES = {"vocab_size": 246534, "n_positions": 256, "n_embd": 1280, "n_layer": 48, "n_head": 16}
KEYS = decoders.keys(**SIZES, n_inner="dff", attn_pdrop=None, layer_norm_epsilon=None)
# The norms of the layers have this epsilon whatever the key says, which is of the last one.
REQUIRED = {"layer_norm_epsilon": 1e-6}
IRRELEVANT = {"attn_pdrop", *decoders.SUMMARY}  # nothing is dropped in attention

PREFIX, OUTSIDE = "transformer.", ("lm_head.",)
TABLE = "transformer.w.weight"
BLOCK = (
    "transformer.h.{}.",
    ("layernorm1", "layernorm2"),
    [f"multi_head_attention.W{part}" for part in "qkv"],
    "multi_head_attention.dense",
    ("ffn.0", "ffn.2"),
)
WEIGHTS = (
    Entry(TABLE, "tokens.weight"),
    unstored("positions.table"),
    *decoders.layers(*BLOCK),
    *linear("transformer.layernorm", "final_norm"),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = ()


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = decoders.read(
        {"dff": 8192, **theirs, "activation": "relu"}, KEYS, REQUIRED, "CTRL", ("activation", "relu")
    )
    fields["norm"] |= {"eps": 1e-6}
    fields["embed"] |= {"scaled": True}
    fields["position"] |= {"kind": "sinusoidal", "layout": "halves"}
    fields["head"] |= {"bias": True}
    return made(fields, theirs, {*KEYS, *REQUIRED, *IRRELEVANT}, "CTRL")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that CTRL's layout can't say."""
    theirs = decoders.write(config, KEYS) | REQUIRED | {"dff": config.feed_forward.width or 4 * config.stack.width}
    del theirs["activation_function"]
    return checked(config, theirs, config_from, entries(config), "CTRL")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand((*WEIGHTS, *decoders.output(config)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return decoders.implied(config, TABLE)
