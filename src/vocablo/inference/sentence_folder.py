"""Folders of sentence-transformers: ``modules.json`` says which model reads, how its states are pooled, and what follows.

modules.json                 the modules in order: a Transformer, Pooling, and perhaps Normalize
1_Pooling/config.json        pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_max_tokens
sentence_bert_config.json    max_seq_length: longer texts are cut there by that library, in silence; here they are refused
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocablo import checkpoint
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.checkpoint import Loaded
from vocablo.checkpoint.files import MODULES, read_json, read_list
from vocablo.text.published import lacking

_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, slots=True)
class SentenceFolder:
    """How a folder makes a vector of a text. ``transformer`` is where its model lies, ``limit`` its longest sequence.

    ``unknown`` says what of it isn't known here; ``pooling`` is None then, and has to be asked for.
    """

    transformer: Path
    pooling: str | None
    normalize: bool
    limit: int | None
    unknown: str | None = None


def opened(folder_or_name: str | Path) -> tuple[Loaded, SentenceFolder | None]:
    """A model with its tokenizer, from wherever it lies, and what its folder says of vectors of texts.

    Raises CheckpointError for a folder that can't be read and ConfigError for a model without a tokenizer.
    """
    place = Path(folder_or_name) if checkpoint.is_file(folder_or_name) else checkpoint.locate(folder_or_name)
    sentences = sentence_folder(place)
    folder = sentences.transformer if sentences else place
    loaded = checkpoint.load(folder)
    if loaded.tokenizer is None:
        raise ConfigError(f"{folder_or_name} {lacking(Path(folder))}")
    return loaded, sentences


def sentence_folder(folder: str | Path) -> SentenceFolder | None:
    """What a folder says, or None for one that says nothing. Raises CheckpointError for files that are damaged."""
    path = Path(folder)
    if not (path / MODULES).is_file():
        return None
    modules = read_list(path / MODULES)
    if not all(isinstance(one, dict) and "type" in one for one in modules):
        raise CheckpointError(f"{path / MODULES} is damaged: it should list modules with their types.")
    kinds = [str(one["type"]).rpartition(".")[2] for one in modules]
    places = [Path(str(one.get("path", ""))) for one in modules]
    if any(place.is_absolute() or ".." in place.parts for place in places):
        raise CheckpointError(f"{path / MODULES} is damaged: its modules should lie in the folder itself.")
    transformer = path / places[0] if kinds[:1] == ["Transformer"] else path
    settings = transformer / "sentence_bert_config.json"
    limit = read_json(settings).get("max_seq_length") if settings.is_file() else None
    pooling, unknown = None, None
    if kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        pooling, unknown = _pooling(path, read_json(path / places[1] / "config.json"))
    else:
        unknown = f"{path / MODULES} has the modules {', '.join(kinds)}; known here are Transformer, Pooling and then Normalize"
    return SentenceFolder(transformer, pooling, kinds[-1:] == ["Normalize"], limit, unknown)


def _pooling(path: Path, said: dict[str, Any]) -> tuple[str | None, str | None]:
    """Our name of a pooling, or what isn't known of it."""
    modes = [name for name, value in said.items() if name.startswith("pooling_mode_") and value is True]
    modes += [f"pooling_mode_{said['pooling_mode']}_tokens"] if isinstance(said.get("pooling_mode"), str) else []
    modes = ["pooling_mode_cls_token" if mode == "pooling_mode_cls_tokens" else mode for mode in modes]
    if len(modes) == 1 and modes[0] in _MODES:
        return _MODES[modes[0]], None
    return None, f"{path} pools by {' and '.join(modes) or 'nothing'}; known here is one of {', '.join(_MODES)}"
