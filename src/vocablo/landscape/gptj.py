"""GPT-J (Wang and Komatsuzaki 2021) as Hugging Face stores it: attention and feed-forward side by side after one norm.

The first ``rotary_dim`` dimensions of queries and keys are rotated, neighbours making a pair. Attention has no biases, the
output layer is of its own and has one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _decoders as decoders
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear, unstored
from vocablo.models.transformer import Config

TYPES = ("gptj",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "GPTJForCausalLM"}

KEYS = decoders.keys(
    vocab_size=50400, n_positions=2048, n_embd=4096, n_layer=28, n_head=16, embd_pdrop=0.0, resid_pdrop=0.0,
    attn_pdrop=0.0, tie_word_embeddings=False,
)  # fmt: skip
REQUIRED = {"rotary": True}
IRRELEVANT = {"gradient_checkpointing", "scale_attn_weights", *decoders.SUMMARY}

PREFIX, OUTSIDE = "transformer.", ("lm_head.",)
TABLE = "transformer.wte.weight"
BLOCK = (
    "transformer.h.{}.",
    ("ln_1",),
    [f"attn.{part}_proj" for part in "qkv"],
    "attn.out_proj",
    ("mlp.fc_in", "mlp.fc_out"),
)
WEIGHTS = (
    Entry(TABLE, "tokens.weight"),
    unstored("rotary.table"),
    *decoders.layers(*BLOCK, biases=("up", "down")),
    *linear("transformer.ln_f", "final_norm"),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"transformer\.h\.\d+\.attn\.((masked_)?bias|embed_positions)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = decoders.read(theirs, KEYS, REQUIRED, "GPT-J")
    width, heads = fields["stack"]["width"], number(theirs, "n_head", 16, "GPT-J")
    turned = number({"rotary_dim": theirs.get("rotary_dim") or 64}, "rotary_dim", 64, "GPT-J")
    fields["position"] |= {"kind": "rotary", "turned": None if turned * heads == width else turned}
    fields["attention"] |= {"bias": False}
    fields["norm"] |= {"shared": True}
    fields["stack"] |= {"parallel": True}
    fields["head"] |= {"bias": True}
    known = {*KEYS, *REQUIRED, *IRRELEVANT, "activation_function", "rotary_dim"}
    return made(fields, theirs, known, "GPT-J")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that GPT-J's layout can't say."""
    theirs = decoders.write(config, KEYS) | {"rotary_dim": decoders.turned(config)}
    return checked(config, theirs, config_from, entries(config), "GPT-J")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand((*WEIGHTS, *decoders.output(config)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return decoders.implied(config, TABLE)
