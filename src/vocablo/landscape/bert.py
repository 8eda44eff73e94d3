"""BERT (Devlin et al. 2019) as Hugging Face stores it: configuration and weight names, both ways.

``BertModel`` is stored without the prefix ``bert.``; files converted from TensorFlow call a norm's weights gamma and beta.
HerBERT, BETO, BORT, the Japanese BERTs and MiniLM are this layout with other sizes and tokenizers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made
from vocablo.landscape._encoders import KEYS, REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear
from vocablo.models.transformer import Config

TYPES = ("bert",)
FAMILY = "transformer"
ARCHITECTURES = {
    ("lm", "next_sentence"): "BertForPreTraining",
    ("lm",): "BertForMaskedLM",
    ("next_sentence",): "BertForNextSentencePrediction",
    ("classify",): "BertForSequenceClassification",
    ("tag",): "BertForTokenClassification",
    ("span",): "BertForQuestionAnswering",
    ("choose",): "BertForMultipleChoice",
    (): "BertModel",
}
# What the lecture's config.json has beside KEYS, REQUIRED and hidden_act changes nothing that is computed here:
# architectures, gradient_checkpointing, model_type, pad_token_id, transformers_version, use_cache (all of COMMON_KEYS).
IRRELEVANT = {"directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
              "pooler_size_per_head", "pooler_type"}  # fmt: skip

PREFIX, OUTSIDE = "bert.", ("cls.", "classifier.", "qa_outputs.")
RENAMED = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))
WEIGHTS = (
    *encoders.tables("bert.embeddings.", "tokens", "positions", "segments"),
    *encoders.layers("bert.encoder.layer.{}."),
)
POOLER = linear("bert.pooler.dense", "pooler")
TRANSFORM = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
BIAS, DECODER = "cls.predictions.bias", "cls.predictions.decoder"
HEADS = {
    "next_sentence": HeadMap(linear("cls.seq_relationship")),
    "classify": HeadMap(linear("classifier"), pooler=True),
    "tag": HeadMap(linear("classifier"), pooler=False),
    "span": HeadMap(linear("qa_outputs"), pooler=False),
    "choose": HeadMap(linear("classifier"), pooler=True),
}
IGNORED = (r"bert\.embeddings\.(position_ids|token_type_ids)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know; ``names`` of the tensors say which parts are there.

    Raises ConfigError for what we can't compute.
    """
    fields = encoders.read(theirs, KEYS, REQUIRED, "BERT")
    if BIAS not in names:
        fields["head"] = None
    fields["pooler"] = "bert.pooler.dense.weight" in names
    return made(fields, theirs, {*KEYS, *REQUIRED, *IRRELEVANT, "hidden_act"}, "BERT")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that BERT's layout can't say."""
    return checked(config, encoders.write(config, KEYS), config_from, entries(config), "BERT")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    return expand((*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, "bert.embeddings.word_embeddings.weight", BIAS, DECODER)
