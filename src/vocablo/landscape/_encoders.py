"""What the layouts of encoders share: BERT's keys and the BERT signature of a layer, under each family's own names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.landscape._layers import (
    Entry,
    Key,
    activation_from,
    activation_to,
    joined,
    linear,
    read_keys,
    require,
    write_keys,
)
from vocablo.models.transformer import Config

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


def keys(**defaults: Any) -> dict[str, Key]:
    """BERT's keys with a family's own defaults; None takes a key out."""
    changed = {name: Key(KEYS[name].name, value) for name, value in defaults.items() if value is not None}
    return {name: changed.get(name, key) for name, key in KEYS.items() if name not in defaults or name in changed}


def read(
    theirs: Mapping[str, Any],
    keys: Mapping[str, Key],
    required: Mapping[str, Any],
    what: str,
    activation: tuple[str, str] = ("hidden_act", "gelu"),
) -> dict[str, Any]:
    """Fields of an encoder as BERT is one; a layout changes what differs. ``activation``: the key and its default."""
    require(theirs, required, f"{what}'s configuration")
    fields = read_keys(theirs, keys)
    name = activation_from(theirs, *activation, what)
    fields["feed_forward"] = {"width": None, **fields.get("feed_forward", {}), "activation": name}
    fields["stack"]["causal"] = fields["init"]["residual"] = False
    fields["norm"] = {**fields.get("norm", {}), "place": "post", "final": False, "embedding": True}
    fields["head"] = {"tied": True, **fields.get("head", {}), "transform": True, "bias": True, "activation": name}
    if fields["feed_forward"]["width"] == 4 * fields["stack"]["width"]:
        fields["feed_forward"]["width"] = None
    if fields["embed"].get("segments") == 0:
        raise ConfigError(f"{what}'s type_vocab_size has to be at least 1: its table of segments is always there.")
    return fields


def write(config: Config, keys: Mapping[str, Key], activation: str = "hidden_act") -> dict[str, Any]:
    """Their configuration, as far as the keys say it."""
    theirs = write_keys(config, keys) | {activation: activation_to(config.feed_forward.activation)}
    if "intermediate_size" in keys:
        theirs["intermediate_size"] = config.feed_forward.width or 4 * config.stack.width
    return theirs


def tables(prefix: str, *names: str) -> tuple[Entry, ...]:
    """The tables of the embeddings and their norm; ``names`` of ours: tokens, positions, segments."""
    theirs = {"tokens": "word", "positions": "position", "segments": "token_type"}
    entries = tuple(Entry(f"{prefix}{theirs[name]}_embeddings.weight", f"{name}.weight") for name in names)
    return (*entries, *linear(f"{prefix}LayerNorm", "embedding_norm"))


def layers(
    prefix: str,
    attention: Sequence[str] = ("attention.self.query", "attention.self.key", "attention.self.value"),
    out: str = "attention.output.dense",
    attention_norm: str = "attention.output.LayerNorm",
    up: str = "intermediate.dense",
    down: str = "output.dense",
    norm: str = "output.LayerNorm",
    ours: str = "layers.{}",
) -> tuple[Entry, ...]:
    """The 16 tensors of a layer, whose names BERT gave and others changed."""
    return (
        *joined([prefix + part for part in attention], f"{ours}.attention.qkv"),
        *linear(prefix + out, f"{ours}.attention.out"),
        *linear(prefix + attention_norm, f"{ours}.attention_norm"),
        *linear(prefix + up, f"{ours}.feed_forward.up"),
        *linear(prefix + down, f"{ours}.feed_forward.down"),
        *linear(prefix + norm, f"{ours}.feed_forward_norm"),
    )


def output(config: Config, dense: str, norm: str, bias: str, decoder: str) -> tuple[Entry, ...]:
    """An output layer with a transform. The bias of one that isn't tied has a second name, which is the one that counts."""
    if config.head is None:
        return ()
    transform = (*linear(dense, "head.transform.dense"), *linear(norm, "head.transform.norm"), Entry(bias, "head.bias"))
    return transform if config.head.tied else (*transform, *linear(decoder, "head"))


def tied(config: Config, table: str, bias: str, decoder: str) -> dict[str, str]:
    """Tensors of a tied output layer that needn't be stored, being another one."""
    if config.head is None or not config.head.tied:
        return {}
    return {f"{decoder}.weight": table, f"{decoder}.bias": bias}
