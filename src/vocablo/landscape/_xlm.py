"""What XLM and FlauBERT share: XLM's keys, and weights in four parallel lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.landscape import _encoders as encoders
from vocablo.landscape._config import number
from vocablo.landscape._layers import Entry, Key, expand, joined, linear, require
from vocablo.models.transformer import Config

KEYS = {
    "vocab_size": Key("embed.vocab", 30145),
    "emb_dim": Key("stack.width", 2048),
    "n_layers": Key("stack.layers", 12),
    "n_heads": Key("attention.heads", 16),
    "dropout": Key(("stack.dropout", "embed.dropout"), 0.1),
    "attention_dropout": Key("attention.dropout", 0.1),
    "max_position_embeddings": Key("position.max", 512),
    "init_std": Key("init.std", 0.02),
    "layer_norm_eps": Key("norm.eps", 1e-12),
    "tie_word_embeddings": Key("head.tied", True),
}
REQUIRED = {"causal": False, "asm": False, "is_encoder": True}
# embed_init_std is of tables at a start from nothing, which here begin as all weights do.
IRRELEVANT = frozenset(
    """
    bos_index embed_init_std end_n_top eos_index id2lang lang2id lang_id mask_index mask_token_id max_vocab min_count n_words
    pad_index same_enc_dec share_inout_emb start_n_top summary_activation summary_first_dropout summary_proj_to_labels
    summary_type summary_use_proj unk_index
    """.split()  # noqa: SIM905
)
KNOWN = {*KEYS, *REQUIRED, *IRRELEVANT, "gelu_activation", "sinusoidal_embeddings", "n_langs", "use_lang_emb"}
PREFIX, OUTSIDE = "transformer.", ("pred_layer.",)
TABLE, BIAS, DECODER = "transformer.embeddings.weight", "pred_layer.proj.bias", "pred_layer.proj.weight"
IGNORED = (r"transformer\.position_ids",)
WEIGHTS = (
    Entry(TABLE, "tokens.weight"),
    *linear("transformer.layer_norm_emb", "embedding_norm"),
    *joined([f"transformer.attentions.{{}}.{part}_lin" for part in "qkv"], "layers.{}.attention.qkv"),
    *linear("transformer.attentions.{}.out_lin", "layers.{}.attention.out"),
    *linear("transformer.layer_norm1.{}", "layers.{}.attention_norm"),
    *linear("transformer.ffns.{}.lin1", "layers.{}.feed_forward.up"),
    *linear("transformer.ffns.{}.lin2", "layers.{}.feed_forward.down"),
    *linear("transformer.layer_norm2.{}", "layers.{}.feed_forward_norm"),
)


def read(theirs: Mapping[str, Any], names: Any, what: str, keys: Mapping[str, Key] = KEYS) -> dict[str, Any]:
    """Our fields. Raises ConfigError for what we can't compute."""
    require(theirs, REQUIRED, f"{what}'s configuration")
    languages = number(theirs, "n_langs", 1, what)
    if theirs.get("use_lang_emb", True) and languages > 1:
        raise ConfigError(
            f"{what}'s language embeddings (use_lang_emb with n_langs {languages}) can't be followed here."
        )
    theirs = {"vocab_size": theirs.get("n_words", 30145), **theirs, "activation": "gelu"}
    fields = encoders.read(theirs, keys, {}, what, ("activation", "gelu"))
    activation = "gelu" if theirs.get("gelu_activation", True) else "relu"
    fields["feed_forward"] = {"activation": activation}
    fields["position"] |= {"kind": "sinusoidal" if theirs.get("sinusoidal_embeddings") else "learned"}
    fields["head"] |= {"transform": False} if BIAS in names else {}
    return fields if BIAS in names else fields | {"head": None}


def write(config: Config, keys: Mapping[str, Key] = KEYS) -> dict[str, Any]:
    """Their configuration, as far as their keys say it."""
    theirs = encoders.write(config, keys)
    del theirs["hidden_act"]
    return theirs | {
        "gelu_activation": config.feed_forward.activation == "gelu",
        "sinusoidal_embeddings": config.position.kind == "sinusoidal",
        "n_langs": 1,
        "use_lang_emb": False,
    }


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    ours = "positions.table" if config.position.kind == "sinusoidal" else "positions.weight"
    weights = (*WEIGHTS, Entry("transformer.position_embeddings.weight", ours))
    if config.head is not None:
        weights += (Entry(BIAS, "head.bias"), *(() if config.head.tied else (Entry(DECODER, "head.weight"),)))
    return expand(weights, config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: a tied head's matrix is the token table."""
    return {DECODER: TABLE} if config.head is not None and config.head.tied else {}
