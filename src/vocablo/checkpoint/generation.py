"""How a published encoder-decoder wants its texts searched for: ``generation_config.json``, or, in older folders, config.json.

What was read is kept with the model (``model.generation``, their keys) and written again when it is saved. ``settings`` says
the same as fields of ``decoding/settings.py``; whoever decodes takes them as defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocablo.base.errors import CheckpointError
from vocablo.base.files import write_text
from vocablo.checkpoint.files import read_json

FILE = "generation_config.json"
IDS = (
    "decoder_start_token_id",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
# Their key -> our field, for those whose value is the same.
SAME = {
    "num_beams": "beam",
    "length_penalty": "length_penalty",
    "no_repeat_ngram_size": "no_repeat",
    "repetition_penalty": "repetition_penalty",
}
EARLY = {True: "full", False: "estimate", "never": "bound"}
OTHERS = ("bad_words_ids", "early_stopping", "max_length", "min_length", "max_new_tokens", "min_new_tokens")
LANGUAGES = ("mbart", "m2m_100")
# Keys that would change what is written and aren't followed, and their values that change nothing.
NOT_FOLLOWED: dict[str, tuple[Any, ...]] = {
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0.0,),
    "do_sample": (False,),
    "force_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "exponential_decay_length_penalty": (),
}


def read(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are set, the file's before those of config.json."""
    own = read_json(folder / FILE) if (folder / FILE).exists() else {}
    told = {name: own[name] if own.get(name) is not None else config.get(name) for name in (*IDS, *SAME, *OTHERS)}
    if config.get("force_bos_token_to_be_generated") and told["forced_bos_token_id"] is None:
        told["forced_bos_token_id"] = told["bos_token_id"]  # the first BART files
    return {name: value for name, value in told.items() if value is not None}


def ignored(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """What the folder asks for beyond that, as ``key=value``."""
    own = read_json(folder / FILE) if (folder / FILE).exists() else {}
    told = {name: own[name] if own.get(name) is not None else config.get(name) for name in NOT_FOLLOWED}
    return [f"{name}={value}" for name, value in told.items() if value is not None and value not in NOT_FOLLOWED[name]]


def completed(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """config.json with the token that begins a target, wherever the folder says it."""
    start = read(folder, config).get("decoder_start_token_id")
    return config if start is None else config | {"decoder_start_token_id": start}


def write(folder: Path, model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write the file for an encoder-decoder in a published layout; its ids, which belong into config.json, too."""
    told = {"decoder_start_token_id": model.start[0], **getattr(model, "generation", {})}
    told |= {name: config[name] for name in ("eos_token_id", "pad_token_id") if config.get(name) is not None}
    if prefix := getattr(model, "opening", None):
        told["forced_bos_token_id"] = prefix[0]
    write_text(folder / FILE, json.dumps(told, indent=2) + "\n")
    return {name: told.get(name) for name in IDS}


def ends(model: Any) -> int | None:
    """The token that ends a target, where the folder says it. Raises CheckpointError for several."""
    end = getattr(model, "generation", {}).get("eos_token_id")
    if isinstance(end, list) and len(end) == 1:
        return int(end[0])
    if isinstance(end, list):
        raise CheckpointError(f"eos_token_id names {len(end)} tokens that end a text; one can be followed here.")
    return end


def opening(model: Any) -> tuple[int, ...] | None:
    """What every target begins with, behind the start: <s> or a language; None: a language that has to be chosen.

    Models of many languages begin a target with the end token and the language's.
    """
    token = model.generation.get("forced_bos_token_id")
    many = getattr(model, "model_type", "") in LANGUAGES and model.start == (ends(model),)
    return (token,) if token is not None else None if many else ()


def settings(model: Any) -> dict[str, Any]:
    """Fields of ``DecodeSettings`` that the folder sets; lengths are without what stands before a target."""
    told = getattr(model, "generation", {})
    before = len(getattr(model, "start", ()))
    found = {ours: told[theirs] for theirs, ours in SAME.items() if theirs in told}
    if "early_stopping" in told:
        found["early_stopping"] = EARLY.get(told["early_stopping"], "estimate")
    for length, new, ours in (
        ("max_length", "max_new_tokens", "max_tokens"),
        ("min_length", "min_new_tokens", "min_tokens"),
    ):
        if new in told or length in told:
            found[ours] = max(told[new] if new in told else told[length] - before, 1 if ours == "max_tokens" else 0)
    if told.get("bad_words_ids"):
        found["exclude"] = tuple(tuple(words) for words in told["bad_words_ids"])
    end = ends(model)
    if end is not None and told.get("forced_eos_token_id") in (end, [end]):
        found["force_end"] = True
    prefix = getattr(model, "opening", None)
    return found | ({"prefix": prefix} if prefix else {})
