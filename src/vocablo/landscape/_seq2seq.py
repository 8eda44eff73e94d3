"""What the layouts of encoder-decoders share: BART's keys, and the tensors of its two stacks.

A layout says in ``SHAPE`` what its family is (our fields, nested), and in ``KEYS`` what an absent key means there. What
decides how texts are searched for is no part of a configuration: ``checkpoint/generation.py`` reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.base.config import merge
from vocablo.base.errors import ConfigError
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._layers import (
    Entry,
    Key,
    activation_from,
    activation_to,
    expand,
    joined,
    linear,
    read_keys,
    unstored,
    write_keys,
)
from vocablo.models.transformer import Config

KEYS = {
    "vocab_size": Key("embed.vocab", 50265),
    "d_model": Key("stack.width", 1024),
    "encoder_layers": Key("stack.layers", 12),
    "encoder_ffn_dim": Key("feed_forward.width", 4096),
    "encoder_attention_heads": Key("attention.heads", 16),
    "encoder_layerdrop": Key("stack.layer_drop", 0.0),
    "decoder_layers": Key("decoder.layers", 12),
    "decoder_ffn_dim": Key("decoder.width", 4096),
    "decoder_attention_heads": Key("decoder.heads", 16),
    "decoder_layerdrop": Key("decoder.layer_drop", 0.0),
    "max_position_embeddings": Key("position.max", 1024),
    "dropout": Key(("stack.dropout", "embed.dropout"), 0.1),
    "attention_dropout": Key("attention.dropout", 0.0),
    "activation_dropout": Key("feed_forward.dropout", 0.0),
    "scale_embedding": Key("embed.scaled", False),
    "tie_word_embeddings": Key("head.tied", True),
    "init_std": Key("init.std", 0.02),
}
# Keys of how texts are searched for, which older files keep in config.json.
GENERATION = frozenset(
    """
    bad_words_ids decoder_start_token_id early_stopping encoder_no_repeat_ngram_size force_bos_token_to_be_generated
    forced_bos_token_id forced_eos_token_id length_penalty max_length max_new_tokens min_length no_repeat_ngram_size num_beams
    prefix repetition_penalty task_specific_params
    """.split()  # noqa: SIM905
)
# What the first files of these families say of themselves beside; the model_type says it already.
IRRELEVANT = GENERATION | frozenset(
    """
    _num_labels add_bias_logits add_final_layer_norm classif_dropout classifier_dropout do_blenderbot_90_layernorm
    extra_layer_norm extra_pos_embeddings is_decoder layernorm_variant normalize_before normalize_embedding num_hidden_layers
    save_step static_position_embeddings variant
    """.split()  # noqa: SIM905
)
PREFIX, OUTSIDE = "model.", ("lm_head.", "final_logits_bias", "classification_head.")
IGNORED = (r"model\.(encoder|decoder)\.version",)
FIXED = r"model\.(encoder|decoder)\.embed_positions\.weights?"  # tables that some files have and others haven't
# A field of the decoder -> the encoder's, which it is where it isn't given.
SAME = {"layers": ("stack", "layers"), "width": ("feed_forward", "width"), "heads": ("attention", "heads"),
        "layer_drop": ("stack", "layer_drop")}  # fmt: skip


def keys(**defaults: Any) -> dict[str, Key]:
    """BART's keys with a family's own defaults."""
    return {name: Key(key.name, defaults.get(name, key.default)) for name, key in KEYS.items()}


def read(
    theirs: Mapping[str, Any],
    keys: Mapping[str, Key],
    shape: Mapping[str, Any],
    what: str,
    activation: tuple[str, str] = ("activation_function", "gelu"),
) -> dict[str, Any]:
    """Fields of an encoder-decoder as BART is one, with a layout's ``shape``. ``activation``: the key and its default."""
    fields = read_keys(theirs, keys)
    fields["feed_forward"] |= {"activation": activation_from(theirs, *activation, what)}
    fields["stack"] |= {"causal": False}
    fields["init"] = fields.get("init", {}) | {"residual": False}
    fields["decoder"] = fields.get("decoder", {}) | {"start": start(theirs, what)}
    fields = merge([("keys", fields), ("shape", shape)])[0]
    if fields["position"].get("stretched"):  # fairseq counts positions from the next number after padding's on
        fields["position"] |= {"offset": number(theirs, "pad_token_id", 1, what) + 1}
    side = fields["decoder"]
    for name, (section, field) in SAME.items():
        if name in side and side[name] == fields[section].get(field):
            side[name] = None
    return fields


def start(theirs: Mapping[str, Any], what: str) -> tuple[int, ...]:
    """The ids before the first target token. Raises ConfigError when nothing says them."""
    token = theirs.get("decoder_start_token_id")
    if type(token) is not int or token < 0:
        raise ConfigError(
            f"{what}'s decoder_start_token_id has to be the id that targets begin with; it is {token!r}: add it to config.json "
            "or generation_config.json (T5 and Marian begin with padding, BART with </s>, mBART with the language's token)."
        )
    return (token,)


def write(config: Config, keys: Mapping[str, Key], activation: str = "activation_function") -> dict[str, Any]:
    """Their configuration, as far as the keys say it."""
    decoder = config.decoder
    if decoder is None or len(decoder.start) != 1:
        raise ConfigError("This layout is of an encoder-decoder whose targets begin with one id.")
    side = {name: getattr(decoder, name) for name in SAME}
    width = config.feed_forward.width or 4 * config.stack.width
    config = config.model_copy(update={"feed_forward": config.feed_forward.model_copy(update={"width": width})})
    own = {name: getattr(getattr(config, section), field) for name, (section, field) in SAME.items()}
    side = {name: own[name] if value is None else value for name, value in side.items()}
    both = config.model_copy(update={"decoder": decoder.model_copy(update=side)})
    told = {
        activation: activation_to(config.feed_forward.activation),
        "decoder_start_token_id": decoder.start[0],
    }  # type: ignore[union-attr]
    told |= {"pad_token_id": config.position.offset - 1} if config.position.stretched else {}
    return write_keys(both, keys) | told | {"is_encoder_decoder": True}


def entries(
    config: Config, *, stored: bool = False, table: str = "model.shared.weight", output: str = "lm_head"
) -> list[Entry]:
    """Every tensor that is stored for a configuration. ``stored``: whether fixed tables of positions are."""
    two = config.decoder is not None and config.decoder.vocab is not None
    tables = [Entry(table, "tokens.weight")]
    if two:
        tables = [Entry(f"model.{side}.embed_tokens.weight", ours) for side, ours in
                  (("encoder", "tokens.weight"), ("decoder", "target_tokens.weight"))]  # fmt: skip
    if config.head is not None and not config.head.tied:
        tables.append(Entry(f"{output}.weight", "head.weight"))
    if config.head is not None and config.head.bias:
        tables.append(Entry("final_logits_bias", "head.bias", optional=True, row=True))
    layers = config.stack.layers
    decoding = layers if config.decoder is None else config.decoder.layers or layers
    encoder, decoder = _stack(config, "encoder", stored), _stack(config, "decoder", stored)
    return tables + expand(encoder, layers) + expand(decoder, decoding)


def implied(config: Config, table: str = "model.shared.weight", output: str = "lm_head") -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the tables of both sides, and that of the output."""
    two = config.decoder is not None and config.decoder.vocab is not None
    names = [] if two else [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    table = "model.decoder.embed_tokens.weight" if two else table
    twins = {name: table for name in names if name != table}
    return twins | ({f"{output}.weight": table} if config.head is not None and config.head.tied else {})


def _stack(config: Config, side: str, stored: bool) -> list[Entry]:
    theirs, ours = f"model.{side}.", f"{side}."
    found: list[Entry] = []
    if config.position.kind == "learned":
        found.append(Entry(f"{theirs}embed_positions.weight", f"{ours}positions.weight"))
    elif stored:
        found.append(Entry(f"{theirs}embed_positions.weight", f"{ours}positions.table", optional=True))
    else:
        found.append(unstored(f"{ours}positions.table"))
    if config.norm.embedding:
        found += linear(f"{theirs}layernorm_embedding", f"{ours}embedding_norm")
    if config.norm.final:
        found += linear(f"{theirs}layer_norm", f"{ours}final_norm")
    return found + _layer(f"{theirs}layers.{{}}.", f"{ours}layers.{{}}.", cross=side == "decoder")


def _layer(theirs: str, ours: str, cross: bool) -> list[Entry]:
    found = [
        *joined([f"{theirs}self_attn.{part}_proj" for part in "qkv"], f"{ours}attention.qkv"),
        *linear(f"{theirs}self_attn.out_proj", f"{ours}attention.out"),
        *linear(f"{theirs}self_attn_layer_norm", f"{ours}attention_norm"),
        *linear(f"{theirs}fc1", f"{ours}feed_forward.up"),
        *linear(f"{theirs}fc2", f"{ours}feed_forward.down"),
        *linear(f"{theirs}final_layer_norm", f"{ours}feed_forward_norm"),
    ]
    if cross:
        found += linear(f"{theirs}encoder_attn.q_proj", f"{ours}cross.q")
        found += joined([f"{theirs}encoder_attn.{part}_proj" for part in "kv"], f"{ours}cross.kv")
        found += linear(f"{theirs}encoder_attn.out_proj", f"{ours}cross.out")
        found += linear(f"{theirs}encoder_attn_layer_norm", f"{ours}cross_norm")
    return found


class Layout:
    """A layout that differs from BART's in nothing but its keys' defaults and its shape."""

    def __init__(
        self,
        what: str,
        shape: Mapping[str, Any],
        keys: Mapping[str, Key] = KEYS,
        activation: str = "gelu",
        stored: bool = False,
        irrelevant: Collection[str] = (),
    ) -> None:
        self.what, self.shape, self.keys, self.activation = what, shape, keys, activation
        self.stored, self.known = stored, {*keys, *IRRELEVANT, *irrelevant, "activation_function"}

    def config_from(self, theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
        """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
        fields = read(theirs, self.keys, self.shape, self.what, ("activation_function", self.activation))
        return made(fields, theirs, self.known, self.what)

    def config_to(self, config: Config) -> dict[str, Any]:
        """Their configuration. Raises ConfigError naming the fields that the layout can't say."""
        return checked(config, write(config, self.keys), self.config_from, self.entries(config), self.what)

    def entries(self, config: Config) -> list[Entry]:
        """Every tensor that is stored for a configuration."""
        return entries(config, stored=self.stored)
