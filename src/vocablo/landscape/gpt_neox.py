"""GPT-NeoX (Black et al. 2022; Pythia) as Hugging Face stores it: attention and feed-forward side by side, a norm each.

A share of each head's dimensions is rotated, one of each half making a pair. Query, key and value of a head are stored
together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.landscape import _decoders as decoders
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, expand, linear, unstored
from vocablo.models.transformer import Config

TYPES = ("gpt_neox",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "GPTNeoXForCausalLM"}

KEYS = {
    "vocab_size": Key("embed.vocab", 50432),
    "max_position_embeddings": Key("position.max", 2048),
    "hidden_size": Key("stack.width", 6144),
    "num_hidden_layers": Key("stack.layers", 44),
    "num_attention_heads": Key("attention.heads", 64),
    "intermediate_size": Key("feed_forward.width", 24576),
    "layer_norm_eps": Key("norm.eps", 1e-5),
    "hidden_dropout": Key(("stack.dropout", "embed.dropout"), 0.0),
    "attention_dropout": Key("attention.dropout", 0.0),
    "attention_bias": Key("attention.bias", True),
    "use_parallel_residual": Key("stack.parallel", True),
    "tie_word_embeddings": Key("head.tied", False),
    "initializer_range": Key("init.std", 0.02),
}
REQUIRED = {"rope_scaling": None}
ROTATION = {"rotary_pct", "rotary_emb_base", "rope_theta", "partial_rotary_factor", "rope_parameters"}
BLOCK = (
    "gpt_neox.layers.{}.",
    ("input_layernorm", "post_attention_layernorm"),
    "attention.query_key_value",
    "attention.dense",
    ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
)
PREFIX, OUTSIDE = "gpt_neox.", ("embed_out.", "lm_head.")
RENAMED = ((r"^lm_head\.", "embed_out."),)
TABLE, OUTPUT = "gpt_neox.embed_in.weight", "embed_out"
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"gpt_neox\.layers\.\d+\.attention\.((masked_)?bias|rotary_emb\.inv_freq)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = decoders.read(theirs, KEYS, REQUIRED, "GPT-NeoX", ("hidden_act", "gelu"))
    fields["position"] |= {"kind": "rotary", "layout": "halves", **_rotation(theirs)}
    return made(fields, theirs, {*KEYS, *REQUIRED, *ROTATION, "hidden_act", "is_decoder"}, "GPT-NeoX")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that GPT-NeoX's layout can't say."""
    share = decoders.turned(config) / (config.stack.width // config.attention.heads)
    turning = {"rope_type": "default", "rope_theta": config.position.theta, "partial_rotary_factor": share}
    theirs = decoders.write(config, KEYS, "hidden_act") | {"rope_parameters": turning}
    theirs["intermediate_size"] = config.feed_forward.width or 4 * config.stack.width
    return checked(config, theirs, config_from, entries(config), "GPT-NeoX")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    biases = ("qkv", "out", "up", "down") if config.attention.bias else ("up", "down")
    weights = (
        Entry(TABLE, "tokens.weight"),
        unstored("rotary.table"),
        *decoders.layers(*BLOCK, biases=biases, per_head=config.attention.heads),
        *linear("gpt_neox.final_layer_norm", "final_norm"),
    )
    return expand((*weights, *decoders.output(config, OUTPUT)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return decoders.implied(config, TABLE, OUTPUT)


def _rotation(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The base of the angles and how many dimensions turn, which newer files say in one key and older ones in two."""
    told = theirs.get("rope_parameters") or {
        "rope_theta": theirs.get("rotary_emb_base", theirs.get("rope_theta", 10000)),
        "partial_rotary_factor": theirs.get("rotary_pct", 0.25),
    }
    width, heads = (number(theirs, key, 1, "GPT-NeoX") for key in ("hidden_size", "num_attention_heads"))
    share = told.get("partial_rotary_factor", 0.25) if isinstance(told, dict) else None
    if not isinstance(share, (int, float)) or told.get("rope_type", "default") != "default" or not heads:
        raise ConfigError(f"GPT-NeoX's rope_parameters can't be followed here; got {told!r}.")
    size = width // heads
    return {"theta": told.get("rope_theta", 10000), "turned": None if share == 1 else int(size * share)}
