"""GPT (Radford et al. 2018) as Hugging Face stores it: the norm after each branch, none after the last layer.

What its configuration calls ``gelu`` is the approximation by tanh. Linear layers are stored as [in, out].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _decoders as decoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand
from vocablo.models.transformer import Config

TYPES = ("openai-gpt",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "OpenAIGPTLMHeadModel"}

KEYS = decoders.keys(vocab_size=40478, n_positions=512, n_inner=None)
ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
IRRELEVANT = {"predict_special_tokens", *decoders.SUMMARY}

PREFIX, OUTSIDE = "transformer.", ("lm_head.",)
TABLE = "transformer.tokens_embed.weight"
BLOCK = ("transformer.h.{}.", ("ln_1", "ln_2"), "attn.c_attn", "attn.c_proj", ("mlp.c_fc", "mlp.c_proj"))
WEIGHTS = (
    Entry(TABLE, "tokens.weight"),
    Entry("transformer.positions_embed.weight", "positions.weight"),
    *decoders.layers(*BLOCK, transposed=True),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"transformer\.h\.\d+\.attn\.bias", r"transformer\.position_ids")


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = decoders.read(theirs, KEYS, {}, "GPT", ("afn", "gelu"), ACTIVATIONS)
    fields["norm"] |= {"place": "post", "final": False}
    return made(fields, theirs, {*KEYS, *IRRELEVANT, "afn"}, "GPT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that GPT's layout can't say."""
    return checked(config, decoders.write(config, KEYS, "afn", ACTIVATIONS), config_from, entries(config), "GPT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand((*WEIGHTS, *decoders.output(config)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return decoders.implied(config, TABLE)
