"""What the files of published checkpoints share: weight names that stand for every layer, and fields of a configuration.

In a name, ``{}`` stands for the number of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from vocablo.base.errors import CheckpointError, ConfigError

# Keys of any Hugging Face config.json that change nothing in what a model computes.
COMMON_KEYS = frozenset(
    """
    _attn_implementation_autoset _name_or_path architectures bos_token_id chunk_size_feed_forward dtype eos_token_id
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_range
    is_encoder_decoder label2id max_length min_length model_type name_or_path num_labels output_attentions
    output_hidden_states output_past pad_token_id problem_type pruned_heads return_dict return_dict_in_generate
    sep_token_id task_specific_params tokenizer_class torch_dtype transformers_version unk_token_id use_cache
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor under their name and ours; ``transposed``: theirs is [in, out], ours [out, in]."""

    theirs: str
    ours: str
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """The field of ours, dotted, that a key of theirs sets, and what an absent key means there."""

    name: str
    default: Any = None


def expand(entries: Iterable[Entry], layers: int) -> list[Entry]:
    """The entries with those of a layer written out for every layer."""
    return [
        Entry(entry.theirs.replace("{}", str(layer)), entry.ours.replace("{}", str(layer)), entry.transposed)
        for entry in entries
        for layer in (range(layers) if "{}" in entry.ours else [0])
    ]


def to_ours(tensors: Mapping[str, Tensor], entries: Iterable[Entry], ignored: Iterable[str] = ()) -> dict[str, Tensor]:
    """Our tensors from theirs, each used exactly once; ``ignored`` are patterns of names that carry no weights.

    Raises CheckpointError naming what is missing and what nobody asked for.
    """
    entries = list(entries)
    known = {entry.theirs for entry in entries}
    unused = sorted(
        name for name in tensors if name not in known and not any(re.fullmatch(pattern, name) for pattern in ignored)
    )
    missing = sorted(known - tensors.keys())
    if missing or unused:
        faults = [f"lack {_some(missing)}"] * bool(missing) + [f"have {_some(unused)}"] * bool(unused)
        raise CheckpointError(f"The weights don't fit the configuration: they {' and '.join(faults)}.")
    return {entry.ours: _turned(tensors[entry.theirs], entry) for entry in entries}


def to_theirs(tensors: Mapping[str, Tensor], entries: Iterable[Entry]) -> dict[str, Tensor]:
    """Their tensors from ours. Raises CheckpointError for a tensor of ours that has no place there."""
    entries = list(entries)
    homeless = sorted(tensors.keys() - {entry.ours for entry in entries})
    if homeless:
        raise CheckpointError(f"The published layout has no place for {_some(homeless)}.")
    return {entry.theirs: _turned(tensors[entry.ours], entry) for entry in entries}


def _turned(tensor: Tensor, entry: Entry) -> Tensor:
    return tensor.t().contiguous() if entry.transposed else tensor


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def read_keys(theirs: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Our fields, nested, from their configuration."""
    result: dict[str, Any] = {}
    for key, ours in keys.items():
        section, field = ours.name.split(".")
        result.setdefault(section, {})[field] = theirs.get(key, ours.default)
    return result


def write_keys(config: BaseModel, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Their configuration from our fields."""
    values = config.model_dump()
    return {key: values[section][field] for key, ours in keys.items() for section, field in [ours.name.split(".")]}


def unknown_keys(theirs: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Keys that nobody here has heard of, sorted: a caller names them in a warning."""
    return sorted(set(theirs) - set(known) - COMMON_KEYS)


def require(theirs: Mapping[str, Any], values: Mapping[str, Any], what: str) -> None:
    """Raise ConfigError for a key whose value asks for something that no field of ours can say."""
    for key, value in values.items():
        if theirs.get(key, value) != value:
            raise ConfigError(f"{what}: {key} = {theirs[key]!r} can't be followed here; only {value!r} can.")


def differences(wanted: BaseModel, written: BaseModel) -> str:
    """The fields in which two configurations differ: ``norm.place 'post'``, ..."""
    ours, theirs = wanted.model_dump(), written.model_dump()
    return ", ".join(
        f"{section}.{field} {value!r}"
        for section, fields in ours.items()
        for field, value in fields.items()
        if theirs[section][field] != value
    )
