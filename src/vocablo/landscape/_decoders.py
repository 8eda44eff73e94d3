"""What the layouts of decoders share: GPT's keys, the tensors of a layer under each family's own names, the output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vocablo.landscape._layers import (
    ACTIVATIONS,
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
    "vocab_size": Key("embed.vocab", 50257),
    "n_positions": Key("position.max", 1024),
    "n_embd": Key("stack.width", 768),
    "n_layer": Key("stack.layers", 12),
    "n_head": Key("attention.heads", 12),
    "n_inner": Key("feed_forward.width"),
    "layer_norm_epsilon": Key("norm.eps", 1e-5),
    "embd_pdrop": Key("embed.dropout", 0.1),
    "resid_pdrop": Key("stack.dropout", 0.1),
    "attn_pdrop": Key("attention.dropout", 0.1),
    "tie_word_embeddings": Key("head.tied", True),
    "initializer_range": Key("init.std", 0.02),
}
# Keys of a classifier that isn't part of the trunk, and of old files.
SUMMARY = {
    "n_ctx", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
}  # fmt: skip


def keys(**defaults: Any) -> dict[str, Key]:
    """GPT's keys with a family's own defaults; a text is another name of the key, None takes a key out."""
    renamed = {name: value for name, value in defaults.items() if isinstance(value, str)}
    changed = {name: Key(KEYS[name].name, value) for name, value in defaults.items() if name not in renamed}
    kept = {renamed.get(name, name): changed.get(name, key) for name, key in KEYS.items()}
    return {name: key for name, key in kept.items() if defaults.get(name, 0) is not None}


def read(
    theirs: Mapping[str, Any],
    keys: Mapping[str, Key],
    required: Mapping[str, Any],
    what: str,
    activation: tuple[str, str] = ("activation_function", "gelu_new"),
    known: Mapping[str, str] = ACTIVATIONS,
) -> dict[str, Any]:
    """Fields of a decoder as GPT-2 is one; a layout changes what differs. ``activation``: the key and its default."""
    require(theirs, required, f"{what}'s configuration")
    fields = read_keys(theirs, keys)
    sections = ("embed", "position", "stack", "attention", "feed_forward", "norm", "head", "init")
    fields = {name: fields.get(name, {}) for name in sections}
    fields["feed_forward"] |= {"activation": activation_from(theirs, *activation, what, known)}
    fields["init"] |= {"residual": False}
    return fields


def write(
    config: Config,
    keys: Mapping[str, Key],
    activation: str = "activation_function",
    known: Mapping[str, str] = ACTIVATIONS,
) -> dict[str, Any]:
    """Their configuration, as far as the keys say it."""
    return write_keys(config, keys) | {activation: activation_to(config.feed_forward.activation, known)}


def turned(config: Config) -> int:
    """How many dimensions of a head turn."""
    return config.position.turned or config.stack.width // config.attention.heads


def layers(
    prefix: str,
    norms: Sequence[str],
    attention: str | Sequence[str],
    out: str,
    feed_forward: Sequence[str],
    *,
    transposed: bool = False,
    biases: Collection[str] = ("qkv", "out", "up", "down"),
    per_head: int = 0,
) -> tuple[Entry, ...]:
    """The tensors of a layer: its norms, the joined or three projections, the last projection, the two linear maps.

    ``biases``: which of the linear maps have one.
    """
    entries: list[Entry] = []
    for theirs, ours in zip(norms, ("attention_norm", "feed_forward_norm"), strict=False):
        entries += linear(prefix + theirs, f"layers.{{}}.{ours}")
    three = [prefix + part for part in ([attention] if isinstance(attention, str) else attention)]
    maps = {
        "qkv": joined(three, "layers.{}.attention.qkv"),
        "out": linear(prefix + out, "layers.{}.attention.out"),
        "up": linear(prefix + feed_forward[0], "layers.{}.feed_forward.up"),
        "down": linear(prefix + feed_forward[1], "layers.{}.feed_forward.down"),
    }
    for name, (weight, bias) in maps.items():
        heads = per_head if name == "qkv" else 0
        entries.append(Entry(weight.theirs, weight.ours, transposed, heads))
        if name in biases:
            entries.append(Entry(bias.theirs, bias.ours, per_head=heads))
    return tuple(entries)


def output(config: Config, theirs: str = "lm_head") -> tuple[Entry, ...]:
    """The output layer: nothing where it is the token table, and its bias where it has one."""
    head = config.head
    if head is None or head.tied:
        return (Entry(f"{theirs}.bias", "head_bias"),) if head is not None and head.bias else ()
    weight, bias = linear(theirs, "head")
    return (weight, bias) if head.bias else (weight,)


def implied(config: Config, table: str, theirs: str = "lm_head") -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return {f"{theirs}.weight": table} if config.head is not None and config.head.tied else {}
