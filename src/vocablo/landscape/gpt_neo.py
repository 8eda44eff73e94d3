"""GPT-Neo (Black et al. 2021) as Hugging Face stores it: GPT-2 whose layers look at everything and at a window in turn.

Scores aren't scaled; queries, keys and values have no bias. Linear layers are stored as [out, in].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import cycle, islice
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.landscape import _decoders as decoders
from vocablo.landscape._config import checked, made, number
from vocablo.landscape._heads import HeadMap
from vocablo.landscape._layers import Entry, expand, linear
from vocablo.models.transformer import Config

TYPES = ("gpt_neo",)
FAMILY = "transformer"
ARCHITECTURES = {("lm",): "GPTNeoForCausalLM"}

NAMES = {"n_positions": "max_position_embeddings", "n_embd": "hidden_size", "n_layer": "num_layers", "n_head": "num_heads",
         "n_inner": "intermediate_size", "embd_pdrop": "embed_dropout", "resid_pdrop": "resid_dropout",
         "attn_pdrop": "attention_dropout"}  # fmt: skip
DEFAULTS = {"max_position_embeddings": 2048, "hidden_size": 2048, "num_layers": 24, "num_heads": 16, "embed_dropout": 0.0,
            "resid_dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip
KEYS = decoders.keys(**NAMES)
IRRELEVANT = {"attention_layers", "gradient_checkpointing", *decoders.SUMMARY}

PREFIX, OUTSIDE = "transformer.", ("lm_head.",)
TABLE = "transformer.wte.weight"
BLOCK = (
    "transformer.h.{}.",
    ("ln_1", "ln_2"),
    [f"attn.attention.{part}_proj" for part in "qkv"],
    "attn.attention.out_proj",
    ("mlp.c_fc", "mlp.c_proj"),
)
WEIGHTS = (
    Entry(TABLE, "tokens.weight"),
    Entry("transformer.wpe.weight", "positions.weight"),
    *decoders.layers(*BLOCK, biases=("out", "up", "down")),
    *linear("transformer.ln_f", "final_norm"),
)
HEADS: dict[str, HeadMap] = {}
IGNORED = (r"transformer\.h\.\d+\.attn\.attention\.(masked_)?bias",)


def config_from(theirs: Mapping[str, Any], names: Collection[str]) -> tuple[Config, list[str]]:
    """Our configuration, and their keys that we don't know. Raises ConfigError for what we can't compute."""
    fields = decoders.read({**DEFAULTS, **theirs}, KEYS, {}, "GPT-Neo")
    fields["attention"] |= {"scaled": False, "bias": False, "out_bias": True, "windows": _windows(theirs)}
    known = {*KEYS, *IRRELEVANT, "activation_function", "attention_types", "window_size"}
    return made(fields, theirs, known, "GPT-Neo")


def config_to(config: Config) -> dict[str, Any]:
    """Their configuration. Raises ConfigError naming the fields that GPT-Neo's layout can't say."""
    windows = config.attention.windows or (0,)
    kinds = ["local" if window else "global" for window in islice(cycle(windows), config.stack.layers)]
    theirs = decoders.write(config, KEYS)
    theirs |= {"attention_types": [[kinds, 1]], "attention_layers": kinds, "window_size": max(windows) or 256}
    return checked(config, theirs, config_from, entries(config), "GPT-Neo")


def entries(config: Config) -> list[Entry]:
    """Every tensor that is stored for a configuration."""
    return expand((*WEIGHTS, *decoders.output(config)), config.stack.layers)


def implied(config: Config) -> dict[str, str]:
    """Tensors that needn't be stored, being another one: the head of a tied model is its token table."""
    return decoders.implied(config, TABLE)


def _windows(theirs: Mapping[str, Any]) -> tuple[int, ...]:
    """The window of each layer until they repeat; none where all are global."""
    layers = number(theirs, "num_layers", 24, "GPT-Neo")
    size = number(theirs, "window_size", 256, "GPT-Neo")
    told = theirs.get("attention_types") or [[["global", "local"], 12]]
    try:
        kinds = [{"global": 0, "local": size}[kind] for names, times in told for _ in range(times) for kind in names]
    except (TypeError, ValueError, KeyError):
        kinds = []
    if len(kinds) != layers:
        raise ConfigError(
            f"GPT-Neo's attention_types say 'global' or 'local' for each of {layers} layers; got {told!r}."
        )
    period = next((n for n in range(1, layers) if all(kinds[i] == kinds[i % n] for i in range(layers))), layers)
    return tuple(kinds[:period]) if any(kinds) else ()
