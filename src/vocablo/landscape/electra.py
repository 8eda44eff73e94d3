"""ELECTRA (Clark et al. 2020) as Hugging Face stores it: a generator (masked words) or a discriminator (replaced ones).

BERT whose tables may be narrower than its layers. The discriminator's head tells for every token whether it was replaced;
it is kept beside the model as ``replaced_token`` and gives one logit for each state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear
from vocablo.models.transformer import Config

TYPES = ("electra",)
FAMILY = "transformer"
ARCHITECTURES = {
    ("lm",): "ElectraForMaskedLM",
    ("replaced_token",): "ElectraForPreTraining",
    (): "ElectraModel",
}

KEYS = encoders.keys(hidden_size=256, num_attention_heads=4, intermediate_size=1024)
IRRELEVANT = {"summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"}
PREFIX, OUTSIDE = "electra.", ("generator_", "discriminator_")
WEIGHTS = (
    *encoders.tables("electra.embeddings.", "tokens", "positions", "segments"),
    *encoders.layers("electra.encoder.layer.{}."),
)
PROJECT = linear("electra.embeddings_project", "project")
TRANSFORM = ("generator_predictions.dense", "generator_predictions.LayerNorm")
TABLE, BIAS, DECODER = "electra.embeddings.word_embeddings.weight", "generator_lm_head.bias", "generator_lm_head"
PREDICTIONS = "discriminator_predictions."
HEADS = {
    "replaced_token": HeadMap(
        (*linear(PREDICTIONS + "dense", "0"), *linear(PREDICTIONS + "dense_prediction", "2")),
        ("linear", "activation", "linear"),
    )
}
IGNORED = (r"electra\.embeddings\.(position_ids|token_type_ids)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, REQUIRED, "ELECTRA")
    width = theirs.get("embedding_size", 128)
    fields["embed"] |= {"width": None if width == fields["stack"]["width"] else width}
    fields["head"] |= {"activation": "gelu"}  # whatever hidden_act says
    if BIAS not in names:
        fields["head"] = None
    return made(fields, theirs, {*KEYS, *REQUIRED, *IRRELEVANT, "hidden_act", "embedding_size"}, "ELECTRA")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that ELECTRA's layout can't say."""
    theirs = encoders.write(config, KEYS) | {"embedding_size": config.embed.width or config.stack.width}
    return checked(config, theirs, config_from, entries(config), "ELECTRA")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (() if config.embed.width is None else PROJECT)
    return expand((*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
