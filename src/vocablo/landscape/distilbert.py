"""DistilBERT (Sanh et al. 2019) as Hugging Face stores it: BERT without segments and pooler, under names of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, expand
from vocablo.models.transformer import Config

TYPES = ("distilbert",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "DistilBertForMaskedLM", (): "DistilBertModel"}

KEYS = {
    "vocab_size": Key("embed.vocab", 30522),
    "dim": Key("stack.width", 768),
    "n_layers": Key("stack.layers", 6),
    "n_heads": Key("attention.heads", 12),
    "hidden_dim": Key("feed_forward.width", 3072),
    "dropout": Key(("stack.dropout", "embed.dropout"), 0.1),
    "attention_dropout": Key("attention.dropout", 0.1),
    "max_position_embeddings": Key("position.max", 512),
    "initializer_range": Key("init.std", 0.02),
    "tie_word_embeddings": Key("head.tied", True),
}
IRRELEVANT = {"qa_dropout", "seq_classif_dropout", "tie_weights_"}
PREFIX, OUTSIDE = "distilbert.", ("vocab_",)
LAYERS = encoders.layers(
    "distilbert.transformer.layer.{}.",
    ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)
POSITIONS = "distilbert.embeddings.position_embeddings.weight"
TABLE, BIAS, DECODER = "distilbert.embeddings.word_embeddings.weight", "vocab_projector.bias", "vocab_projector"
TRANSFORM = ("vocab_transform", "vocab_layer_norm")
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"distilbert\.embeddings\.position_ids",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, KEYS, {}, "DistilBERT", ("activation", "gelu"))
    fields["norm"] |= {"eps": 1e-12}
    fields["position"] |= {"kind": "sinusoidal" if theirs.get("sinusoidal_pos_embds") else "learned"}
    if BIAS not in names:
        fields["head"] = None
    return made(fields, theirs, {*KEYS, *IRRELEVANT, "activation", "sinusoidal_pos_embds"}, "DistilBERT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that DistilBERT's layout can't say."""
    theirs = encoders.write(config, KEYS, "activation")
    theirs |= {"hidden_dim": config.feed_forward.width or 4 * config.stack.width}
    theirs |= {"sinusoidal_pos_embds": config.position.kind == "sinusoidal"}
    return checked(config, theirs, config_from, entries(config), "DistilBERT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    tables = encoders.tables("distilbert.embeddings.", "tokens")
    positions = Entry(POSITIONS, "positions.table" if config.position.kind == "sinusoidal" else "positions.weight")
    head = encoders.output(config, *TRANSFORM, BIAS, DECODER)
    return expand((*tables, positions, *LAYERS, *head), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
