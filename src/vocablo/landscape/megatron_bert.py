"""Megatron-BERT (Shoeybi et al. 2019) as Hugging Face stores it: BERT with its norms before the parts and one at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear
from vocablo.models.transformer import Config

TYPES = ("megatron-bert",)
FAMILY = "transformer"
ARCHITECTURES = {
    ("lm", "next_sentence"): "MegatronBertForPreTraining",
    ("lm",): "MegatronBertForMaskedLM",
    ("next_sentence",): "MegatronBertForNextSentencePrediction",
    (): "MegatronBertModel",
}

KEYS = encoders.keys(
    vocab_size=29056, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
)
PREFIX, OUTSIDE = "bert.", ("cls.",)
TABLES = encoders.tables("bert.embeddings.", "tokens", "positions", "segments")[:-2]  # they have no norm
WEIGHTS = (
    *TABLES,
    *encoders.layers("bert.encoder.layer.{}.", attention_norm="attention.ln", norm="ln"),
    *linear("bert.encoder.ln", "final_norm"),
)
POOLER = linear("bert.pooler.dense", "pooler")
TRANSFORM = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
TABLE, BIAS = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"
DECODER = "cls.predictions.decoder"
HEADS = {"next_sentence": HeadMap(linear("cls.seq_relationship"))}
IGNORED = (r"bert\.embeddings\.position_ids",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, REQUIRED, "Megatron-BERT")
    fields["norm"] |= {"place": "pre", "final": True, "embedding": False}
    if BIAS not in names:
        fields["head"] = None
    fields["pooler"] = "bert.pooler.dense.weight" in names
    return made(fields, theirs, {*KEYS, *REQUIRED, "hidden_act"}, "Megatron-BERT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that Megatron-BERT's layout can't say."""
    return checked(config, encoders.write(config, KEYS), config_from, entries(config), "Megatron-BERT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    return expand((*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
