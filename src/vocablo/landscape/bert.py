"""BERT (Devlin et al. 2019) as Hugging Face stores it: configuration and weight names, both ways.

``BertModel`` is stored without the prefix ``bert.``; files converted from TensorFlow call a norm's weights gamma and beta.
HerBERT, BETO, BORT, the Japanese BERTs and MiniLM are this layout with other sizes and tokenizers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.base.config import build
from vocablo.base.errors import ConfigError
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import (
    Entry,
    Key,
    activation_from,
    activation_to,
    expand,
    joined,
    linear,
    read_keys,
    require,
    require_same,
    unknown_keys,
    write_keys,
)
from vocablo.models.transformer import Config

TYPES = ("bert",)
FAMILY = "transformer"
ARCHITECTURES = {
    ("lm", "next_sentence"): "BertForPreTraining",
    ("lm",): "BertForMaskedLM",
    ("next_sentence",): "BertForNextSentencePrediction",
    (): "BertModel",
}

KEYS = {
    "vocab_size": Key("embed.vocab", 30522),
    "hidden_size": Key("stack.width", 768),
    "num_hidden_layers": Key("stack.layers", 12),
    "num_attention_heads": Key("attention.heads", 12),
    "intermediate_size": Key("feed_forward.width", 3072),
    "hidden_dropout_prob": Key(("stack.dropout", "embed.dropout"), 0.1),
    "attention_probs_dropout_prob": Key("attention.dropout", 0.1),
    "max_position_embeddings": Key("position.max", 512),
    "type_vocab_size": Key("embed.segments", 2),
    "initializer_range": Key("init.std", 0.02),
    "layer_norm_eps": Key("norm.eps", 1e-12),
    "tie_word_embeddings": Key("head.tied", True),
}
REQUIRED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
# What the lecture's config.json has beside these: architectures, gradient_checkpointing, model_type, pad_token_id,
# transformers_version and use_cache change nothing that is computed here; they are among COMMON_KEYS.
IRRELEVANT = {"directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
              "pooler_size_per_head", "pooler_type"}  # fmt: skip

PREFIX, OUTSIDE = "bert.", ("cls.",)
RENAMED = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))
LAYER = "bert.encoder.layer.{}."
WEIGHTS = (
    Entry("bert.embeddings.word_embeddings.weight", "tokens.weight"),
    Entry("bert.embeddings.position_embeddings.weight", "positions.weight"),
    Entry("bert.embeddings.token_type_embeddings.weight", "segments.weight"),
    *linear("bert.embeddings.LayerNorm", "embedding_norm"),
    *joined([LAYER + f"attention.self.{part}" for part in ("query", "key", "value")], "layers.{}.attention.qkv"),
    *linear(LAYER + "attention.output.dense", "layers.{}.attention.out"),
    *linear(LAYER + "attention.output.LayerNorm", "layers.{}.attention_norm"),
    *linear(LAYER + "intermediate.dense", "layers.{}.feed_forward.up"),
    *linear(LAYER + "output.dense", "layers.{}.feed_forward.down"),
    *linear(LAYER + "output.LayerNorm", "layers.{}.feed_forward_norm"),
)
POOLER = linear("bert.pooler.dense", "pooler")
TRANSFORM = (
    *linear("cls.predictions.transform.dense", "head.transform.dense"),
    *linear("cls.predictions.transform.LayerNorm", "head.transform.norm"),
    Entry("cls.predictions.bias", "head.bias"),
)
DECODER = linear(
    "cls.predictions.decoder", "head"
)  # of a head that isn't tied; its bias has two names, this one counts
HEADS = {"next_sentence": HeadMap(linear("cls.seq_relationship"))}
IGNORED = (r"bert\.embeddings\.(position_ids|token_type_ids)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know; ``names`` of the tensors say which parts are there.

    Raises ConfigError for what we can't compute.
    """
    require(theirs, REQUIRED, "BERT's configuration")
    fields = read_keys(theirs, KEYS)
    activation = activation_from(theirs, "hidden_act", "gelu", "BERT")
    fields["feed_forward"]["activation"] = activation
    fields["stack"]["causal"] = fields["init"]["residual"] = False
    fields["norm"] |= {"place": "post", "final": False, "embedding": True}
    fields["head"] |= {"transform": True, "bias": True, "activation": activation}
    if "cls.predictions.bias" not in names:
        fields["head"] = None
    fields["pooler"] = "bert.pooler.dense.weight" in names
    if not fields["embed"]["segments"]:
        raise ConfigError("BERT's type_vocab_size has to be at least 1: its table of segments is always there.")
    if fields["feed_forward"]["width"] == 4 * fields["stack"]["width"]:
        fields["feed_forward"]["width"] = None
    unknown = unknown_keys(theirs, {*KEYS, *REQUIRED, *IRRELEVANT, "hidden_act"})
    return build(Config, fields, "BERT's configuration"), unknown


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that BERT's layout can't say."""
    theirs = write_keys(config, KEYS) | {"hidden_act": activation_to(config.feed_forward.activation)}
    theirs |= {"intermediate_size": config.feed_forward.width or 4 * config.stack.width}
    names = {name for entry in entries(config) for name in entry.names}
    require_same(config, config_from(theirs, names)[0], "BERT")
    return theirs


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    if config.head is not None:
        weights += TRANSFORM + (() if config.head.tied else DECODER)
    return expand(weights, config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    if config.head is None or not config.head.tied:
        return {}
    return {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
