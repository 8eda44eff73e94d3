"""Where the files of a published set stand in a folder, and which models it measures.

A suite's file says it with ``cells(data)``: one cell for each test that has a model, a file and a figure of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vocablo.base.errors import ConfigError, DataError
from vocablo.data.parallel import two_files

SPLITS = ("train", "dev", "test")
# How files of columns are named: by the shared tasks of CoNLL, in UD's treebanks, or by their split.
CONLL = {
    "train": ("*-ud-train*.conllu", "*train*"),
    "dev": ("*-ud-dev.conllu", "*testa*", "*valid*", "*dev*"),
    "test": ("*-ud-test.conllu", "*testb*", "*test*"),
}
_TEXTS = (".md", ".html")  # what stands beside data and isn't any


@dataclass(frozen=True, slots=True)
class Cell:
    """One test: its name in papers, the tasks whose models it measures, and its files by split (what is absent has none).

    ``folder`` is that of its model, where one folder has the models of a whole suite; ``options`` are the suite's and
    ``columns`` those of ``finetune``. ``submission`` is the name of the file of predictions.
    """

    name: str
    tasks: tuple[str, ...]
    files: Mapping[str, Path]
    submission: str
    folder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    def at(self, files: Mapping[str, Path | None]) -> Cell:
        """The same with these files instead."""
        return replace(self, files={split: path for split, path in files.items() if path is not None})


def existing(data: str | Path) -> Path:
    """A file or folder, or two parallel files SOURCE,TARGET. Raises DataError where there is none."""
    path = Path(data)
    if (pair := two_files(str(data))) is not None:
        for one in pair:
            existing(one)
        return path
    if not path.exists():
        raise DataError(f"There is no file or folder {path}: give the set's folder with --data.")
    return path


def find(folder: Path, patterns: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """The file of each split: that of the first of its patterns which any file of the folder has.

    A file is of one split only. Raises ConfigError when several files have the pattern.
    """
    if not folder.is_dir():
        return {}
    names = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in _TEXTS)
    found: dict[str, Path] = {}
    for split, known in patterns.items():
        for pattern in known:
            fitting = [path for path in names if path.match(pattern) and path not in found.values()]
            if len(fitting) > 1:
                named = ", ".join(path.name for path in fitting)
                raise ConfigError(f"{folder}: which file is for {split}, {named}? Give the file itself with --data.")
            if fitting:
                found[split] = fitting[0]
                break
    return found
