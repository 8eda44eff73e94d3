"""GPT-2 (Radford et al. 2019) as Hugging Face stores it: configuration and weight names, both ways.

Its linear layers (``Conv1D``) are stored as [in, out]. The first published files lack the prefix ``transformer.`` and
carry the causal mask as a tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.base.config import build
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import (
    Entry,
    Key,
    activation_from,
    activation_to,
    expand,
    read_keys,
    require,
    require_same,
    unknown_keys,
    write_keys,
)
from vocablo.models.transformer import Config

TYPES = ("gpt2",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "GPT2LMHeadModel"}

KEYS = {
    "vocab_size": Key("embed.vocab", 50257),
    "n_positions": Key("position.max", 1024),
    "n_embd": Key("stack.width", 768),
    "n_layer": Key("stack.layers", 12),
    "n_head": Key("attention.heads", 12),
    "n_inner": Key("feed_forward.width"),
    "layer_norm_epsilon": Key("norm.eps", 1e-5),
    "embd_pdrop": Key("embed.dropout", 0.1),
    "resid_pdrop": Key("stack.dropout", 0.1),
    "attn_pdrop": Key("attention.dropout", 0.1),
    "scale_attn_weights": Key("attention.scaled", True),
    "tie_word_embeddings": Key("head.tied", True),
    "initializer_range": Key("init.std", 0.02),
}
REQUIRED = {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
IRRELEVANT = {
    "n_ctx",
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
}

PREFIX, OUTSIDE = "transformer.", ("lm_head.",)
WEIGHTS = (
    Entry("transformer.wte.weight", "tokens.weight"),
    Entry("transformer.wpe.weight", "positions.weight"),
    Entry("transformer.h.{}.ln_1.weight", "layers.{}.attention_norm.weight"),
    Entry("transformer.h.{}.ln_1.bias", "layers.{}.attention_norm.bias"),
    Entry("transformer.h.{}.attn.c_attn.weight", "layers.{}.attention.qkv.weight", transposed=True),
    Entry("transformer.h.{}.attn.c_attn.bias", "layers.{}.attention.qkv.bias"),
    Entry("transformer.h.{}.attn.c_proj.weight", "layers.{}.attention.out.weight", transposed=True),
    Entry("transformer.h.{}.attn.c_proj.bias", "layers.{}.attention.out.bias"),
    Entry("transformer.h.{}.ln_2.weight", "layers.{}.feed_forward_norm.weight"),
    Entry("transformer.h.{}.ln_2.bias", "layers.{}.feed_forward_norm.bias"),
    Entry("transformer.h.{}.mlp.c_fc.weight", "layers.{}.feed_forward.up.weight", transposed=True),
    Entry("transformer.h.{}.mlp.c_fc.bias", "layers.{}.feed_forward.up.bias"),
    Entry("transformer.h.{}.mlp.c_proj.weight", "layers.{}.feed_forward.down.weight", transposed=True),
    Entry("transformer.h.{}.mlp.c_proj.bias", "layers.{}.feed_forward.down.bias"),
    Entry("transformer.ln_f.weight", "final_norm.weight"),
    Entry("transformer.ln_f.bias", "final_norm.bias"),
)
HEAD = Entry("lm_head.weight", "head.weight")
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"transformer\.h\.\d+\.attn\.(masked_)?bias",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    require(theirs, REQUIRED, "GPT-2's configuration")
    fields = read_keys(theirs, KEYS)
    fields["feed_forward"]["activation"] = activation_from(theirs, "activation_function", "gelu_new", "GPT-2")
    unknown = unknown_keys(theirs, {*KEYS, *REQUIRED, *IRRELEVANT, "activation_function"})
    return build(Config, fields, "GPT-2's configuration"), unknown


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that GPT-2's layout can't say."""
    theirs = write_keys(config, KEYS) | {"activation_function": activation_to(config.feed_forward.activation)}
    require_same(config, config_from(theirs, ())[0], "GPT-2")
    return theirs


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand((*WEIGHTS, *(() if _tied(config) else (HEAD,))), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return {HEAD.names[0]: "transformer.wte.weight"} if _tied(config) else {}


def _tied(config: Config) -> bool:
    return config.head is not None and config.head.tied
