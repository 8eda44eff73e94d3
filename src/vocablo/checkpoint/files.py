"""The files of a model folder: found, here or on the hub, and read with every damage named."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vocablo.base.errors import CheckpointError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MODULES = "modules.json"  # of sentence-transformers: which parts a model has, and in which subfolders
FILES = ["*.json", "*.safetensors"]
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def locate(folder_or_name: str | Path) -> Path:
    """The folder itself, or a hub repository's snapshot: its JSON and safetensors files, and no others.

    Of its subfolders only those that ``modules.json`` names are fetched (a sentence-transformers model has its pooling in
    one): others hold the same weights in other formats.
    """
    path, name = Path(folder_or_name), str(folder_or_name)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(
            f"{name} is a file; a model is a folder with {CONFIG} and {WEIGHTS}, an .arpa file, or a file of word vectors."
        )
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise CheckpointError(f"There is no model folder {name}.")
    found = _fetch(name, FILES, ignore="*/*")
    modules = read_list(found / MODULES) if (found / MODULES).exists() else []
    places = [str(one["path"]) for one in modules if isinstance(one, dict) and one.get("path")]
    if places:
        _fetch(name, [f"{place}/{kind}" for place in places for kind in FILES], revision=found.name)
    return found


def _fetch(name: str, allow: list[str], ignore: str | None = None, revision: str | None = None) -> Path:
    """Some files of a hub repository, from its cache on this machine or from the hub."""
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(name, allow_patterns=allow, ignore_patterns=ignore, revision=revision)
    except Exception as error:  # the client raises its own, the transport's and the system's
        raise CheckpointError(
            f"There is no folder {name}, and no model of that name could be had from the hub ({type(error).__name__}): "
            "check the path, or the name and the network."
        ) from None
    return Path(found)


def read_config(folder: Path) -> dict[str, Any]:
    """The object in ``config.json``."""
    path = folder / CONFIG
    if not path.exists():
        if (folder / "run" / "state.json").exists():
            raise CheckpointError(
                f"{folder} holds a run that isn't finished: go on with it (--resume), or load one of {folder / 'run' / 'steps'}."
            )
        raise CheckpointError(f"{folder} has no {CONFIG}: it isn't a model folder.")
    config = read_json(path)
    if "model_type" not in config:
        raise CheckpointError(f"{path} doesn't say its model_type: it isn't a model's, or is damaged.")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return _read(path, dict, "object")


def read_list(path: Path) -> list[Any]:
    """The list in a JSON file."""
    return _read(path, list, "list")


def _read(path: Path, kind: type, what: str) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy or download it again.") from None
    if not isinstance(value, kind):
        raise CheckpointError(f"{path} is damaged: it holds no JSON {what}.")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Raises CheckpointError for one that isn't there, and for a pickle instead."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        files = [folder / WEIGHTS]
    else:
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or any(Path(str(name)).name != name for name in shards.values()):
            raise CheckpointError(f"{folder / INDEX} is damaged: its weight_map should name files of the same folder.")
        files = [folder / name for name in sorted(set(shards.values()))]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        pickle = next((path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))), None)
        hint = " Copy or download the whole folder; pickles (pytorch_model.bin) aren't read."
        if pickle is not None:
            known = read_json(folder / CONFIG).get("architectures") or ["AutoModel"]
            hint = (
                f" Its {pickle} is a pickle, which can run code when it is read, so it isn't: convert it once where you "
                f"trust it, with transformers: {known[0]}.from_pretrained(FOLDER).save_pretrained(NEW)."
            )
        raise CheckpointError(f"{folder} has no {missing[0]}.{hint}")
    return files


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A safetensors file, its header checked against its size."""
    try:
        with safe_open(file, "pt") as reader:
            yield reader
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): copy or download it again.") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by their names."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        with opened(file) as reader:
            tensors |= {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
    return tensors


@contextmanager
def system_errors() -> Iterator[None]:
    """safetensors reports the system's errors (a full disk) in words of its own; give them back their number."""
    try:
        yield
    except SafetensorError as error:
        if (match := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(match.group(1)), os.strerror(int(match.group(1)))) from error
