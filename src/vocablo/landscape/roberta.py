"""RoBERTa (Liu et al. 2019) as Hugging Face stores it, and the models that are RoBERTa with another tokenizer.

BERT without next sentences; positions are counted from ``pad_token_id + 1``, so that many rows of their table are unused.
CamemBERT and XLM-RoBERTa have a type of their own; BERTweet, PhoBERT and many more call themselves roberta.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._encoders import REQUIRED
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear
from vocablo.models.transformer import Config

TYPES = ("roberta", "camembert", "xlm-roberta")
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "RobertaForMaskedLM", (): "RobertaModel"}
CLASSES = {"camembert": ("Roberta", "Camembert"), "xlm-roberta": ("Roberta", "XLMRoberta")}

ROBERTA_KEYS = {**encoders.keys(vocab_size=50265, max_position_embeddings=None)}
PREFIX, OUTSIDE = "roberta.", ("lm_head.",)
WEIGHTS = (
    *encoders.tables("roberta.embeddings.", "tokens", "positions", "segments"),
    *encoders.layers("roberta.encoder.layer.{}."),
)
POOLER = linear("roberta.pooler.dense", "pooler")
TRANSFORM = ("lm_head.dense", "lm_head.layer_norm")
TABLE, BIAS, DECODER = "roberta.embeddings.word_embeddings.weight", "lm_head.bias", "lm_head.decoder"
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"roberta\.embeddings\.(position_ids|token_type_ids)",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = encoders.read(theirs, ROBERTA_KEYS, REQUIRED, "RoBERTa")
    offset = number(theirs, "pad_token_id", 1, "RoBERTa") + 1
    rows = number(theirs, "max_position_embeddings", 512, "RoBERTa")
    fields["position"] = {"offset": offset, "max": rows - offset}
    fields["head"] |= {"activation": "gelu"}  # whatever hidden_act says
    if BIAS not in names:
        fields["head"] = None
    fields["pooler"] = "roberta.pooler.dense.weight" in names
    known = {*ROBERTA_KEYS, *REQUIRED, "hidden_act", "max_position_embeddings"}
    return made(fields, theirs, known, "RoBERTa")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that RoBERTa's layout can't say."""
    offset = config.position.offset
    theirs = encoders.write(config, ROBERTA_KEYS)
    theirs |= {"pad_token_id": offset - 1, "max_position_embeddings": config.position.max + offset}
    return checked(config, theirs, config_from, entries(config), "RoBERTa")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    weights = WEIGHTS + (POOLER if config.pooler else ())
    return expand((*weights, *encoders.output(config, *TRANSFORM, BIAS, DECODER)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return encoders.tied(config, TABLE, BIAS, DECODER)
