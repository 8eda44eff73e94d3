"""A checkpoint is a folder that anyone can read: ``config.json``, ``model.safetensors``, ``tokenizer.json``.

Where the landscape has a published layout that says the configuration exactly, the folder is in that layout and other
tools load it; other families have the same files with ``model_type = "vocablo-FAMILY"``. A loaded model is saved in the
layout that it came from. Tensors load strictly: a missing or unknown one is an error. Only safetensors are read; no pickle,
no remote code. An ARPA file (``.arpa``, ``.arpa.gz``), which holds an n-gram model and its words, loads as a folder does,
and so does a file of word vectors (word2vec's, GloVe's, fastText's).

Heads (of next-sentence prediction, of tasks) are modules beside the model, saved and loaded with it by their names.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vocablo.arpa import reading as arpa
from vocablo.arpa.names import is_arpa
from vocablo.base import registry
from vocablo.base.config import build
from vocablo.base.errors import CheckpointError, ConfigError, nearest
from vocablo.base.files import replacing, require_space, write_text
from vocablo.checkpoint import generation
from vocablo.checkpoint.files import (
    CONFIG,
    WEIGHTS,
    locate,
    opened,
    read_config,
    read_json,
    read_tensors,
    system_errors,
    weight_files,
)
from vocablo.elmo_files import reading as elmo
from vocablo.landscape._heads import architecture, heads_to_ours, heads_to_theirs
from vocablo.landscape._layers import canonical, to_ours, to_theirs
from vocablo.nn.output import head_of, parts_of
from vocablo.text.published import found as tokenizer_in
from vocablo.text.tokenizer import Tokenizer
from vocablo.vector_files import reading as vectors

MODELS, LANDSCAPE = "vocablo.models", "vocablo.landscape"
FORMAT = 1
OWN = "vocablo-"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, its tokenizer (None if the folder has none) and the ``config.json`` as it stands.

    ``heads`` are the modules saved beside the model, such as ``next_sentence``.
    """

    model: Any
    tokenizer: Tokenizer | None
    config: dict[str, Any]
    heads: dict[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Description:
    """What a folder holds, read from its headers. ``bytes`` is the size of the weights on the disk."""

    folder: str
    model_type: str
    family: str
    parameters: int
    bytes: int
    dtype: str
    context: int | None
    vocabulary: int | None
    tokenizer: str | None
    config: dict[str, Any]
    run: dict[str, Any] | None


def save(
    folder: str | Path,
    model: Any,
    tokenizer: Tokenizer | None = None,
    heads: Mapping[str, nn.Module] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder, whole or not at all; one that was there before is replaced.

    ``more`` are further entries of ``config.json``, such as the labels of a task.
    Raises StorageError for a full disk, before anything is changed.
    """
    path = Path(folder)
    size = sum(tensor.nbytes for module in (model, *(heads or {}).values()) for tensor in module.state_dict().values())
    require_space(path, size + (1 << 20), "The model")
    with replacing(path) as temporary:
        temporary.mkdir()
        write(temporary, model, tokenizer, heads, more)


def write(
    folder: Path,
    model: Any,
    tokenizer: Tokenizer | None = None,
    heads: Mapping[str, nn.Module] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """The files of a checkpoint alone, into a folder that exists (within a larger write that is whole or absent)."""
    heads = heads or {}
    published = _published(model, heads)
    config, tensors = published or _own(model, heads)
    config |= dict(more or {})
    if tokenizer is not None:
        config |= _special_ids(model, tokenizer, config)
        tokenizer.save(folder, model_max_length=model.context, ends=model.reads == "source_target")
    if published and model.reads == "source_target":
        config |= generation.write(folder, model, config)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with system_errors():
        save_file(plain, folder / WEIGHTS, {"format": "pt"})
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _special_ids(model: Any, tokenizer: Tokenizer, config: Mapping[str, Any]) -> dict[str, int]:
    """The ids that other tools ask for. Raises ConfigError for a layout that counts positions from another padding."""
    ids: dict[str, int] = {}
    if model.reads == "left" and tokenizer.end_id is not None:
        ids |= {"bos_token_id": tokenizer.end_id, "eos_token_id": tokenizer.end_id}
    if model.reads == "source_target" and tokenizer.end_id is not None:
        ids["eos_token_id"] = tokenizer.end_id
    if tokenizer.pad_id is not None:
        if config.get("pad_token_id", tokenizer.pad_id) != tokenizer.pad_id:
            raise ConfigError(
                f"This layout counts positions from pad_token_id {config['pad_token_id']}, and the tokenizer's padding is "
                f"{tokenizer.pad_id}: save the model with the tokenizer that it came with."
            )
        ids["pad_token_id"] = tokenizer.pad_id
    elif "eos_token_id" in ids and model.reads == "source_target":
        told = {**getattr(model, "generation", {}), **config}
        ids["pad_token_id"] = told.get("pad_token_id", ids["eos_token_id"])  # without one transformers takes no labels
    return ids


def _published(model: Any, heads: Mapping[str, nn.Module]) -> tuple[dict[str, Any], Mapping[str, Tensor]] | None:
    """Config and tensors in the layout that the model came from, or else the first that says all of it exactly."""
    origin = getattr(model, "model_type", "")
    names = [name for name in registry.names(LANDSCAPE) if registry.constant(LANDSCAPE, name, "FAMILY") == _file(model)]
    for name in sorted(names, key=lambda name: origin not in registry.constant(LANDSCAPE, name, "TYPES")):
        layout = registry.load(LANDSCAPE, name)
        kind = origin if origin in layout.TYPES else layout.TYPES[0]
        try:
            theirs = layout.config_to(model.config)
            head = {"architectures": [architecture(layout, model.config, heads, kind)], "model_type": kind}
            beside = heads_to_theirs(model.config, heads, layout)
        except ConfigError:
            continue
        # A layout's own default would name a token of another vocabulary.
        head |= {"bos_token_id": None, "eos_token_id": None}
        tensors = to_theirs(model.state_dict(), layout.entries(model.config)) | beside
        if model.config.head is None and not heads:
            tensors = {name.removeprefix(layout.PREFIX): tensor for name, tensor in tensors.items()}
        dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
        return head | theirs | ({"dtype": dtypes.pop()} if len(dtypes) == 1 else {}), tensors
    return None


def _own(model: Any, heads: Mapping[str, nn.Module]) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    told: dict[str, Any] = {"format": FORMAT, "config": model.config.model_dump(mode="json")}
    if heads:
        told["heads"] = {name: list(parts_of(module)) for name, module in heads.items()}
    again = _tied(model)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in again}
    for name, module in heads.items():
        tensors |= {f"heads.{name}.{key}": tensor for key, tensor in module.state_dict().items()}
    return {"model_type": OWN + _file(model), "vocablo": told}, tensors


def _file(model: Any) -> str:
    """The file of ``models/`` that a model is made by."""
    return type(model).__module__.rpartition(".")[2]


def _tied(model: Any) -> dict[str, str]:
    """Names of parameters that are another one under a second name -> the first name."""
    first: dict[int, str] = {}
    again: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False) if isinstance(model, nn.Module) else ():
        if first.setdefault(id(parameter), name) != name:
            again[name] = first[id(parameter)]
    return again


def is_file(path: str | Path) -> bool:
    """Whether a model is one file: named as ARPA's, or with word vectors in it."""
    return is_arpa(path) or vectors.is_vectors(path)


def load(folder_or_name: str | Path, *, dtype: str | None = None) -> Loaded:
    """A model from a folder, an ARPA file or a hub name, in evaluation mode.

    ``dtype``: ``fp32`` (the default) or ``bf16``. Raises CheckpointError for whatever is missing, damaged or foreign.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"There is no dtype {dtype!r}{nearest(dtype, DTYPES)}")
    if is_arpa(folder_or_name):
        return Loaded(*arpa.read(folder_or_name), {})
    if vectors.is_vectors(folder_or_name):
        return Loaded(*vectors.read(folder_or_name), {})
    folder = locate(folder_or_name)
    if elmo.is_elmo(folder):
        return Loaded(*elmo.read(folder), {})
    config = read_config(folder)
    kind, name = _kind(folder, config)
    tensors = read_tensors(folder)
    model, heads = (_from_own if kind == MODELS else _from_published)(folder, config, name, tensors)
    for module in (model, *heads.values()):
        if isinstance(module, nn.Module):
            module.to(DTYPES[dtype or "fp32"]).eval()
    tokenizer = tokenizer_in(folder)
    exactly = model.reads == "words"  # each word has its vector; other models may have rows to spare
    if tokenizer is not None and (tokenizer.size > model.vocab or (exactly and tokenizer.size != model.vocab)):
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.size} tokens and the model knows {model.vocab}: they don't belong together."
        )
    return Loaded(model, tokenizer, config, heads)


def _kind(folder: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """The package and the file that a folder's ``model_type`` belongs to."""
    kind = str(config["model_type"])
    own = {OWN + name: (MODELS, name) for name in registry.names(MODELS)}
    published = {kind: (LANDSCAPE, name) for kind, name in registry.owners(LANDSCAPE, "TYPES").items()}
    if kind not in own | published:
        raise CheckpointError(f"{folder} is of type {kind!r}, which isn't known here{nearest(kind, own | published)}")
    return (own | published)[kind]


def _from_own(
    folder: Path, config: dict[str, Any], name: str, tensors: dict[str, Tensor]
) -> tuple[Any, dict[str, nn.Module]]:
    own = config.get("vocablo")
    if not isinstance(own, dict) or not isinstance(own.get("config"), dict):
        raise CheckpointError(f"{folder / CONFIG} has no 'vocablo' section with the model's configuration.")
    if own.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {own.get('format')!r}; this version of Vocablo reads {FORMAT}.")
    module = registry.load(MODELS, name)
    heads = {}
    with _as_checkpoint_error(folder):
        settings = build(module.Config, own["config"], CONFIG)
        for head, parts in own.get("heads", {}).items():
            prefix = f"heads.{head}."
            names = [key for key in tensors if key.startswith(prefix)]
            heads[head] = head_of(parts, {key.removeprefix(prefix): tensors.pop(key) for key in names})
    model = _unset(module, settings)
    _fill(model, tensors, folder)
    return model, heads


def _from_published(
    folder: Path, config: dict[str, Any], name: str, tensors: dict[str, Tensor]
) -> tuple[Any, dict[str, nn.Module]]:
    layout = registry.load(LANDSCAPE, name)
    tensors = canonical(tensors, layout)
    with _as_checkpoint_error(folder):
        settings, unknown = layout.config_from(generation.completed(folder, config), tensors.keys())
    if unknown:
        warnings.warn(f"{folder / CONFIG} has keys that are ignored here: {', '.join(unknown)}.", stacklevel=3)
    for name, twin in layout.implied(settings).items():
        stored = tensors.pop(name, None)
        if stored is not None and not torch.equal(stored, tensors.setdefault(twin, stored)):
            raise CheckpointError(f"{folder}: {name} should be the same as {twin} (the model is tied), and isn't.")
    left_out = [name for name in tensors if any(re.fullmatch(each, name) for each in getattr(layout, "LEFT_OUT", ()))]
    if left_out:
        warnings.warn(f"{folder} has a head that isn't used here: {', '.join(left_out)}.", stacklevel=3)
    with _as_checkpoint_error(folder):
        heads = heads_to_ours(settings, tensors, layout, config.get("architectures") or ())
        model = _unset(registry.load(MODELS, layout.FAMILY), settings)
        wanted = model.state_dict()
        ours = to_ours(tensors, layout.entries(settings), (*layout.IGNORED, *map(re.escape, left_out)), wanted)
    _fill(model, ours, folder)
    model.model_type = config["model_type"]
    if model.reads == "source_target":
        model.generation = generation.read(folder, config)
        model.opening = generation.opening(model)
        if ignored := generation.ignored(folder, config):
            warnings.warn(
                f"{folder} asks for {', '.join(ignored)} when it writes, which isn't followed here.", stacklevel=3
            )
    return model, heads


def _unset(module: ModuleType, settings: Any) -> Any:
    """A model of a configuration whose tensors wait to be filled."""
    with _NoFreshStart():
        return module.build(settings)


def _fill(model: Any, tensors: Mapping[str, Tensor], folder: Path) -> None:
    given = dict(tensors)
    for again, first in _tied(model).items():
        if again not in given and first in given:
            given[again] = given[first]
    try:
        model.load_state_dict(given)
    except (RuntimeError, KeyError) as error:
        lines = " ".join(line.strip() for line in str(error).splitlines())
        raise CheckpointError(f"The weights in {folder} don't fit its {CONFIG}: {lines[:600]}") from None


class _NoFreshStart(TorchFunctionMode):
    """Leaves new parameters unset: drawing 124 million numbers to overwrite them would take seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def _as_checkpoint_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(f"{folder}: {error}") from None


def describe(folder_or_name: str | Path) -> Description:
    """What a folder holds; its weights are not read."""
    if is_arpa(folder_or_name):
        return _describe_arpa(Path(folder_or_name))
    if vectors.is_vectors(folder_or_name):
        return _describe_vectors(Path(folder_or_name))
    folder = locate(folder_or_name)
    if elmo.is_elmo(folder):
        return _describe_elmo(folder)
    config = read_config(folder)
    package, name = _kind(folder, config)
    shapes, dtypes = {}, set()
    for file in weight_files(folder):
        with opened(file) as reader:
            for key in reader.keys():  # noqa: SIM118
                part = reader.get_slice(key)
                shapes[key] = torch.Size(part.get_shape()).numel()
                dtypes.add(part.get_dtype())
    settings: dict[str, Any] = {}
    if package == MODELS:
        settings = config.get("vocablo", {}).get("config", {})
    else:
        layout = registry.load(LANDSCAPE, name)
        with _as_checkpoint_error(folder):
            shapes = canonical(shapes, layout)
            ours = layout.config_from(generation.completed(folder, config), shapes.keys())[0]
        settings = ours.model_dump()
        for twin in (*layout.implied(ours), *(key for key in shapes if _is_buffer(key, layout))):
            shapes.pop(twin, None)
    tokenizer = tokenizer_in(folder)
    state = folder / "run" / "state.json"
    run = read_json(state) if state.exists() else {}
    told = {key: run[key] for key in ("status", "steps", "total", "seconds", "stopped_by") if key in run}
    return Description(
        folder=str(folder),
        model_type=str(config["model_type"]),
        family=name if package == MODELS else registry.constant(LANDSCAPE, name, "FAMILY"),
        parameters=sum(settings.get("entries") or shapes.values()),  # of an n-gram model, its n-grams
        bytes=sum(file.stat().st_size for file in weight_files(folder)),
        dtype=" ".join(sorted(dtypes)),
        context=settings.get("position", {}).get("max"),
        vocabulary=settings.get("vocab", settings.get("embed", {}).get("vocab")),
        tokenizer=None if tokenizer is None else tokenizer.kind,
        config=settings,
        run=told or None,
    )


def _describe_arpa(path: Path) -> Description:
    counts = arpa.entries(path)
    return Description(
        folder=str(path),
        model_type="arpa",
        family="ngram",
        parameters=sum(counts),
        bytes=path.stat().st_size,
        dtype="text",
        context=None,
        vocabulary=counts[0],
        tokenizer="word",
        config={"order": len(counts), "entries": list(counts)},
        run=None,
    )


def _describe_vectors(path: Path) -> Description:
    found = vectors.load(path)
    return Description(
        folder=str(path),
        model_type=found.format,
        family="word_vectors",
        parameters=found.vectors.size,
        bytes=path.stat().st_size,
        dtype="F32",
        context=None,
        vocabulary=len(found.words),
        tokenizer="word",
        config={"width": found.vectors.shape[1]},
        run=None,
    )


def _describe_elmo(path: Path) -> Description:
    model, tokenizer = elmo.read(path)
    return Description(
        folder=str(path),
        model_type="elmo options and weights",
        family="elmo",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes=sum(file.stat().st_size for file in path.glob(elmo.WEIGHTS)),
        dtype="F32",
        context=None,
        vocabulary=tokenizer.size,
        tokenizer=tokenizer.kind,
        config=model.config.model_dump(),
        run=None,
    )


def _is_buffer(name: str, layout: ModuleType) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in layout.IGNORED)
