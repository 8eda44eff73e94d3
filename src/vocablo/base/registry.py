"""The registry: a room's files are its entries, the file name is the key, and nothing is imported until asked for.

Adding a family, a pretext or a published checkpoint is therefore one new file; the command line, the contract tests and
the documentation tables read the names from here.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from vocablo.base.errors import ConfigError, nearest


@cache
def names(package: str) -> tuple[str, ...]:
    """The public module names of a package, sorted, found by listing files."""
    return tuple(sorted(path.stem for path in _folder(package).glob("*.py") if not path.stem.startswith("_")))


def load(package: str, name: str) -> ModuleType:
    """Import exactly one entry. Raises ConfigError naming the nearest entry when there is none."""
    if name not in names(package):
        raise ConfigError(f"{package} has no {name!r}{nearest(name, names(package))}")
    return importlib.import_module(f"{package}.{name}")


@cache
def constant(package: str, name: str, variable: str) -> Any:
    """A literal constant of an entry's file, read without importing it; None when the file doesn't define it."""
    tree = ast.parse((_folder(package) / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
            return ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return None


@cache
def owners(package: str, variable: str) -> dict[str, str]:
    """For every string in the constant ``variable`` (a tuple, or a mapping's keys) of every entry: the entry's name."""
    found: dict[str, str] = {}
    for name in names(package):
        for key in constant(package, name, variable) or ():
            found[key] = name
    return found


@cache
def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"There is no package {package}.")
    return Path(next(iter(spec.submodule_search_locations)))
