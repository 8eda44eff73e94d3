"""T5 (Raffel et al. 2020), T5 v1.1, mT5 (Xue et al. 2021) and ByT5 (Xue et al. 2022) as Hugging Face stores them.

RMS norms before each branch, no biases, scores that aren't scaled, and a bias for the distance of query and key, whose table
lies in the first layer of each stack and is everyone's. The first T5 divides the states by sqrt(D) before the tied output;
v1.1 and its relatives have gated feed-forwards and, in their published files, an output layer of its own.
Nothing limits a sequence's length; ``n_positions``, where a file has it, is what the model was trained on. In training, the
dropout that follows the last norm isn't applied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.landscape import _seq2seq as seq2seq
from vocablo.landscape._config import checked, made
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, Key, activation_to, expand, joined
from vocablo.models.transformer import Config

TYPES = ("t5", "mt5")
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "T5ForConditionalGeneration"}
CLASSES = {"mt5": ("T5", "MT5")}
HEADS: dict[str, HeadMap] = {}

KEYS = {
    "vocab_size": Key("embed.vocab", 32128),
    "d_model": Key("stack.width", 512),
    "d_kv": Key("attention.head_width", 64),
    "d_ff": Key("feed_forward.width", 2048),
    "num_layers": Key("stack.layers", 6),
    "num_decoder_layers": Key("decoder.layers"),
    "num_heads": Key("attention.heads", 8),
    "relative_attention_num_buckets": Key("position.buckets", 32),
    "relative_attention_max_distance": Key("position.distance", 128),
    "n_positions": Key("position.max", 1 << 20),
    "dropout_rate": Key(("stack.dropout", "embed.dropout", "attention.dropout", "feed_forward.dropout"), 0.1),
    "layer_norm_epsilon": Key("norm.eps", 1e-6),
}
SHAPE = {
    "position": {"kind": "none"},
    "attention": {"bias": False, "scaled": False},
    "feed_forward": {"bias": False},
    "norm": {"kind": "rms", "place": "pre", "final": True},
}
IRRELEVANT = {"classifier_dropout", "dense_act_fn", "initializer_factor", "is_gated_act", "output_past", *seq2seq.GENERATION,
              "is_decoder"}  # fmt: skip
KNOWN = {*KEYS, *IRRELEVANT, "feed_forward_proj", "tie_word_embeddings", "scale_decoder_outputs"}
PREFIX, OUTSIDE = "", ()
IGNORED = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    told = str(theirs.get("feed_forward_proj", "gated-gelu" if theirs.get("model_type") == "mt5" else "relu"))
    gate, _, name = told.rpartition("-")
    if gate not in ("", "gated"):
        raise ConfigError(f"T5's feed_forward_proj is an activation, or gated- and one; it is {told!r}.")
    name = "gelu_new" if told == "gated-gelu" else name
    fields = seq2seq.read({**theirs, "feed_forward_proj": name}, KEYS, SHAPE, "T5", ("feed_forward_proj", name))
    fields["feed_forward"] |= {"gated": bool(gate)}
    fields["position"] |= {"max": theirs.get("n_positions") or KEYS["n_positions"].default}
    own = theirs.get("tie_word_embeddings") is False or theirs.get("model_type") == "mt5"
    fields["head"] = {
        "tied": "lm_head.weight" not in names,
        "scaled": bool(theirs.get("scale_decoder_outputs", not own)),
    }
    return made(fields, theirs, KNOWN, "T5")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that T5's layout can't say."""
    theirs = seq2seq.write(config, KEYS, "feed_forward_proj")
    name = activation_to(config.feed_forward.activation)
    gated = {"gelu_new": "gated-gelu"}.get(name, f"gated-{name}")
    tied, scaled = config.head is not None and config.head.tied, config.head is not None and config.head.scaled
    theirs |= {
        "feed_forward_proj": gated if config.feed_forward.gated else name,
        "num_decoder_layers": _decoding(config),
        "d_kv": config.attention.head_width or config.stack.width // config.attention.heads,
    }
    theirs |= {"tie_word_embeddings": tied and scaled, "scale_decoder_outputs": scaled}
    if config.position.max == KEYS["n_positions"].default:
        del theirs["n_positions"]
    return checked(config, theirs, config_from, entries(config), "T5")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    found = [Entry("shared.weight", "tokens.weight")]
    if config.head is not None and not config.head.tied:
        found.append(Entry("lm_head.weight", "head.weight"))
    for side, layers in (("encoder", config.stack.layers), ("decoder", _decoding(config))):
        found.append(Entry(f"{side}.final_layer_norm.weight", f"{side}.final_norm.weight"))
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found.append(Entry(bias, f"{side}.distances.weight"))
        found += expand(_layer(side, config.feed_forward.gated), layers)
    return found


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the tables of both sides, and that of a tied output."""
    names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    names += ["lm_head.weight"] if config.head is not None and config.head.tied else []
    return dict.fromkeys(names, "shared.weight")


def _layer(side: str, gated: bool) -> list[Entry]:
    theirs, ours = f"{side}.block.{{}}.layer.", f"{side}.layers.{{}}."
    last = 2 if side == "decoder" else 1
    attention, cross, dense = (
        f"{theirs}0.SelfAttention.",
        f"{theirs}1.EncDecAttention.",
        f"{theirs}{last}.DenseReluDense.",
    )
    found = [
        joined([attention + part for part in "qkv"], f"{ours}attention.qkv")[0],
        Entry(f"{attention}o.weight", f"{ours}attention.out.weight"),
        Entry(f"{theirs}0.layer_norm.weight", f"{ours}attention_norm.weight"),
        Entry(f"{dense}wi{'_1' if gated else ''}.weight", f"{ours}feed_forward.up.weight"),
        Entry(f"{dense}wo.weight", f"{ours}feed_forward.down.weight"),
        Entry(f"{theirs}{last}.layer_norm.weight", f"{ours}feed_forward_norm.weight"),
    ]
    if gated:
        found.append(Entry(f"{dense}wi_0.weight", f"{ours}feed_forward.gate.weight"))
    if side == "decoder":
        found += [
            Entry(f"{cross}q.weight", f"{ours}cross.q.weight"),
            joined([cross + part for part in "kv"], f"{ours}cross.kv")[0],
            Entry(f"{cross}o.weight", f"{ours}cross.out.weight"),
            Entry(f"{theirs}1.layer_norm.weight", f"{ours}cross_norm.weight"),
        ]
    return found


def _decoding(config: Config) -> int:
    """How many layers the decoder has."""
    return config.stack.layers if config.decoder is None else config.decoder.layers or config.stack.layers
