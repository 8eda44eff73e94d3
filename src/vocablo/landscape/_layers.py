"""What the files of published checkpoints share: weight names that stand for every layer, and fields of a configuration.

In a name, ``{}`` stands for the number of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from vocablo.base.errors import CheckpointError, ConfigError, nearest

# Keys of any Hugging Face config.json that change nothing in what a model computes.
COMMON_KEYS = frozenset(
    """
    _attn_implementation_autoset _name_or_path architectures bos_token_id chunk_size_feed_forward classifier_dropout dtype
    eos_token_id finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label
    is_encoder_decoder label2id max_length min_length model_type name_or_path num_labels output_attentions
    output_hidden_states output_past pad_token_id problem_type pruned_heads return_dict return_dict_in_generate
    sep_token_id task_specific_params tokenizer_class torch_dtype transformers_version unk_token_id use_cache vocablo_task
    """.split()  # noqa: SIM905
)
# Their names of an activation -> ours; the first of several is the one that is written.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor under their name and ours; several of theirs are joined along the first dimension into one of ours.

    ``transposed``: theirs is [in, out], ours [out, in]. ``per_head``: theirs has query, key and value of one head after
    another, this many; ours all queries first. ``optional``: where it is absent, the configuration says it (a fixed
    table, a bias of zeros); without a name, it never is stored. ``row``: theirs is [1, n], ours [n].
    """

    theirs: str | tuple[str, ...]
    ours: str
    transposed: bool = False
    per_head: int = 0
    optional: bool = False
    row: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


@dataclass(frozen=True, slots=True)
class Key:
    """The field of ours, dotted (or several), that a key of theirs sets, and what an absent key means there."""

    name: str | tuple[str, ...]
    default: Any = None

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name


def expand(entries: Iterable[Entry], layers: int) -> list[Entry]:
    """The entries with those of a layer written out for every layer."""
    return [
        replace(entry, theirs=_numbered(entry.theirs, layer), ours=entry.ours.replace("{}", str(layer)))
        for entry in entries
        for layer in (range(layers) if "{}" in entry.ours else [0])
    ]


def _numbered(theirs: str | tuple[str, ...], layer: int) -> str | tuple[str, ...]:
    if isinstance(theirs, str):
        return theirs.replace("{}", str(layer))
    return tuple(name.replace("{}", str(layer)) for name in theirs)


def linear(theirs: str, ours: str = "") -> tuple[Entry, Entry]:
    """The weight and the bias of a linear map or a norm; ``ours`` empty: of a head that is nothing else."""
    prefix = f"{ours}." if ours else ""
    return Entry(f"{theirs}.weight", f"{prefix}weight"), Entry(f"{theirs}.bias", f"{prefix}bias")


def joined(theirs: Sequence[str], ours: str) -> tuple[Entry, Entry]:
    """The same of several linear maps that are one of ours."""
    return (
        Entry(tuple(f"{name}.weight" for name in theirs), f"{ours}.weight"),
        Entry(tuple(f"{name}.bias" for name in theirs), f"{ours}.bias"),
    )


def unstored(ours: str) -> Entry:
    """A fixed table of ours that their files don't hold."""
    return Entry((), ours, optional=True)


def canonical(tensors: Mapping[str, Any], layout: ModuleType) -> dict[str, Any]:
    """The tensors under their newest names: old spellings replaced, and the prefix put where a bare trunk lacks it."""
    renamed = {}
    for name, value in tensors.items():
        for pattern, new in getattr(layout, "RENAMED", ()):
            name = re.sub(pattern, new, name)
        renamed[name] = value
    if any(name.startswith(layout.PREFIX) for name in renamed):
        return renamed
    return {name if name.startswith(layout.OUTSIDE) else layout.PREFIX + name: renamed[name] for name in renamed}


def to_ours(
    tensors: Mapping[str, Tensor],
    entries: Iterable[Entry],
    ignored: Iterable[str] = (),
    wanted: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Our tensors from theirs, each used exactly once; ``ignored`` are patterns of names that carry no weights.

    Raises CheckpointError naming what is missing, what nobody asked for, and what isn't of the shape of ``wanted``.
    """
    entries = list(entries)
    absent = [entry for entry in entries if entry.optional and not any(name in tensors for name in entry.names)]
    entries = [entry for entry in entries if entry not in absent]
    known = {name for entry in entries for name in entry.names}
    unused = sorted(
        name for name in tensors if name not in known and not any(re.fullmatch(pattern, name) for pattern in ignored)
    )
    missing = sorted(known - tensors.keys())
    if missing or unused:
        faults = [f"lack {_some(missing)}"] * bool(missing) + [f"have {_some(unused)}"] * bool(unused)
        raise CheckpointError(f"The weights don't fit config.json: they {' and '.join(faults)}.")
    if wanted is not None:
        check_shapes(tensors, entries, wanted)
    fixed = {} if wanted is None else {entry.ours: wanted[entry.ours] for entry in absent}
    return fixed | {entry.ours: _from_theirs([tensors[name] for name in entry.names], entry) for entry in entries}


def to_theirs(tensors: Mapping[str, Tensor], entries: Iterable[Entry]) -> dict[str, Tensor]:
    """Their tensors from ours. Raises CheckpointError for a tensor of ours that has no place there."""
    entries = list(entries)
    homeless = sorted(tensors.keys() - {entry.ours for entry in entries})
    if homeless:
        raise CheckpointError(f"The published layout has no place for {_some(homeless)}.")
    result: dict[str, Tensor] = {}
    seen: set[str] = set()
    for entry in entries:
        if not entry.names:
            continue
        ours = tensors[entry.ours].clone() if entry.ours in seen else tensors[entry.ours]  # no two tensors share memory
        seen.add(entry.ours)
        parts = ours.chunk(len(entry.names))
        result |= {name: _arranged(part, entry).contiguous() for name, part in zip(entry.names, parts, strict=True)}
    return result


def check_shapes(tensors: Mapping[str, Tensor], entries: Iterable[Entry], wanted: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError naming the tensors of theirs whose shapes aren't those that ours, ``wanted``, ask for."""
    wrong = []
    for entry in entries:
        shape = list(wanted[entry.ours].shape)
        shape[0] //= len(entry.names)
        shape = shape[::-1] if entry.transposed else [1, *shape] if entry.row else shape
        wrong += [
            f"{name} is {list(tensors[name].shape)} and config.json asks for {shape}"
            for name in entry.names
            if list(tensors[name].shape) != shape
        ]
    if wrong:
        raise CheckpointError(f"The weights don't fit config.json: {_some(wrong, 3)}.")


def _from_theirs(parts: Sequence[Tensor], entry: Entry) -> Tensor:
    parts = [part.t().contiguous() if entry.transposed else part[0] if entry.row else part for part in parts]
    ours = parts[0] if len(parts) == 1 else torch.cat(parts)
    return ours.unflatten(0, (entry.per_head, 3, -1)).transpose(0, 1).flatten(0, 2) if entry.per_head else ours


def _arranged(ours: Tensor, entry: Entry) -> Tensor:
    """A part of ours as theirs has it."""
    if entry.per_head:
        ours = ours.unflatten(0, (3, entry.per_head, -1)).transpose(0, 1).flatten(0, 2)
    return ours.t() if entry.transposed else ours[None] if entry.row else ours


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read_keys(theirs: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Our fields, nested, from their configuration."""
    result: dict[str, Any] = {}
    for key, ours in keys.items():
        for name in ours.fields:
            section, field = name.split(".")
            result.setdefault(section, {})[field] = theirs.get(key, ours.default)
    return result


def write_keys(config: BaseModel, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Their configuration from our fields; what belongs to a section that a model lacks is as if absent."""
    values = config.model_dump()
    written = {}
    for key, ours in keys.items():
        section, field = ours.fields[0].split(".")
        written[key] = ours.default if values[section] is None else values[section][field]
    return written


def activation_from(
    theirs: Mapping[str, Any], key: str, default: str, what: str, known: Mapping[str, str] = ACTIVATIONS
) -> str:
    """Our name of the activation that a key names. Raises ConfigError for one that isn't known here."""
    name = str(theirs.get(key, default))
    if name not in known:
        raise ConfigError(f"{what}'s {key} {name!r} isn't known here{nearest(name, known)}")
    return known[name]


def activation_to(ours: str, known: Mapping[str, str] = ACTIVATIONS) -> str:
    """The name of an activation as it is written. Raises ConfigError for one that they haven't."""
    found = next((theirs for theirs, name in known.items() if name == ours), None)
    if found is None:
        raise ConfigError(f"This layout has no name for the activation {ours!r}.")
    return found


def unknown_keys(theirs: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Keys that nobody here has heard of, sorted: a caller names them in a warning."""
    return sorted(set(theirs) - set(known) - COMMON_KEYS)


def require(theirs: Mapping[str, Any], values: Mapping[str, Any], what: str) -> None:
    """Raise ConfigError for a key whose value asks for something that no field of ours can say."""
    for key, value in values.items():
        if theirs.get(key, value) != value:
            raise ConfigError(f"{what}: {key} = {theirs[key]!r} can't be followed here; only {value!r} can.")


def require_same(wanted: BaseModel, written: BaseModel, what: str) -> None:
    """Raise ConfigError naming the fields that a layout, once written and read again, doesn't say as wanted."""
    different = differences(wanted, written)
    if different:
        raise ConfigError(f"{what}'s layout can't say {different}.")


def differences(wanted: BaseModel, written: BaseModel) -> str:
    """The fields in which two configurations differ: ``norm.place 'post'``, ...; a width of None is what it stands for."""
    ours, theirs = _flat(wanted), _flat(written)
    return ", ".join(f"{name} {value!r}" for name, value in ours.items() if theirs.get(name, value) != value)


def _flat(config: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, fields in config.model_dump().items():
        if isinstance(fields, dict):
            flat |= {f"{section}.{field}": value for field, value in fields.items()}
        else:
            flat[section] = fields
    flat["head"] = None if config.head is None else "there"
    flat["feed_forward.width"] = config.feed_forward.width or 4 * config.stack.width
    flat["attention.head_width"] = config.attention.head_width or config.stack.width // config.attention.heads
    return flat
