"""Folders of sentence-transformers: ``modules.json`` says which model reads, how its states are pooled, and what follows.

modules.json                 the modules in order: a Transformer, Pooling, and perhaps Normalize
1_Pooling/config.json        pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_max_tokens
sentence_bert_config.json    max_seq_length: longer texts are cut there by that library, in silence; here they are refused
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocablo.base.errors import CheckpointError

MODULES = "modules.json"
_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, slots=True)
class SentenceFolder:
    """How a folder makes a vector of a text. ``transformer`` is where its model lies, ``limit`` its longest sequence."""

    transformer: Path
    pooling: str
    normalize: bool
    limit: int | None


def sentence_folder(folder: str | Path) -> SentenceFolder | None:
    """What a folder says, or None for one that says nothing. Raises CheckpointError for modules that aren't known here."""
    path = Path(folder)
    if not (path / MODULES).is_file():
        return None
    modules = _read(path / MODULES)
    if not isinstance(modules, list) or not all(isinstance(one, dict) and "type" in one for one in modules):
        raise CheckpointError(f"{path / MODULES} is damaged: it should list modules with their types.")
    kinds = [str(one["type"]).rpartition(".")[2] for one in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(
            f"{path / MODULES} has the modules {', '.join(kinds)}; known here are Transformer, Pooling and then Normalize. "
            "Without that file the model loads, with the pooling that you ask for."
        )
    transformer = path / str(modules[0].get("path", ""))
    said = _read(path / str(modules[1].get("path", "1_Pooling")) / "config.json")
    settings = transformer / "sentence_bert_config.json"
    limit = _read(settings).get("max_seq_length") if settings.is_file() else None
    return SentenceFolder(transformer, _pooling(path, said), kinds[-1] == "Normalize", limit)


def _pooling(path: Path, said: dict[str, Any]) -> str:
    modes = [name for name, value in said.items() if name.startswith("pooling_mode_") and value is True]
    modes += [f"pooling_mode_{said['pooling_mode']}_tokens"] if isinstance(said.get("pooling_mode"), str) else []
    modes = ["pooling_mode_cls_token" if mode == "pooling_mode_cls_tokens" else mode for mode in modes]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(
            f"{path} pools by {' and '.join(modes) or 'nothing'}; known here is one of {', '.join(_MODES)}."
        )
    return _MODES[modes[0]]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): copy or download it again.") from None
