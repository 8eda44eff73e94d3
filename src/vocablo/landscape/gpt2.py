"""GPT-2 (Radford et al. 2019) as Hugging Face stores it: configuration and weight names, both ways.

Its linear layers (``Conv1D``) are stored as [in, out]. The first published files lack the prefix ``transformer.`` and
carry the causal mask as a tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _decoders as decoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, expand, linear
from vocablo.models.transformer import Config

TYPES = ("gpt2",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "GPT2LMHeadModel"}

KEYS = decoders.KEYS | {"scale_attn_weights": Key("attention.scaled", True)}
REQUIRED = {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
IRRELEVANT = {"reorder_and_upcast_attn", *decoders.SUMMARY}

PREFIX, OUTSIDE = "transformer.", ("lm_head.",)
TABLE = "transformer.wte.weight"
BLOCK = ("transformer.h.{}.", ("ln_1", "ln_2"), "attn.c_attn", "attn.c_proj", ("mlp.c_fc", "mlp.c_proj"))
WEIGHTS = (
    Entry(TABLE, "tokens.weight"),
    Entry("transformer.wpe.weight", "positions.weight"),
    *decoders.layers(*BLOCK, transposed=True),
    *linear("transformer.ln_f", "final_norm"),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"transformer\.h\.\d+\.attn\.(masked_)?bias",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = decoders.read(theirs, KEYS, REQUIRED, "GPT-2")
    fields["init"] |= {"residual": True}
    return made(fields, theirs, {*KEYS, *REQUIRED, *IRRELEVANT, "activation_function"}, "GPT-2")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that GPT-2's layout can't say."""
    return checked(config, decoders.write(config, KEYS), config_from, entries(config), "GPT-2")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand((*WEIGHTS, *decoders.output(config)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return decoders.implied(config, TABLE)
