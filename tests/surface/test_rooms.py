"""A room imports only from rooms above it (docs/architecture.md); entries of a registry never import one another."""

import ast
from pathlib import Path

import pytest

import vocablo

ROOT = Path(vocablo.__file__).parent
ORDER = [
    "base",
    "measures",
    "views",
    "text",
    "contract",
    "nn",
    "models",
    "landscape",
    "data",
    "decoding",
    "pretexts",
    "tasks",
    "arpa",
    "vector_files",
    "elmo_files",
    "checkpoint",
    "inference",
    "training",
    "evaluation",
    "api",
    "demo",
    "cli",
    "serve",
]
NO_TORCH = {"base", "measures", "views", "text"}
INDEPENDENT = {"models", "landscape", "pretexts", "tasks"}
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of the package's modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_up(path):
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    assert here in ORDER, f"{path} stands in no room"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "torch" and here in NO_TORCH:
            pytest.fail(f"{here}/ is free of torch, but {path} imports it")
        if parts[0] != "vocablo" or len(parts) < 2 or parts[1] not in ORDER:
            continue
        assert ORDER.index(parts[1]) <= ORDER.index(here), f"{path} imports {name}, which is below {here}/"
        if here in INDEPENDENT and parts[1] == here and len(parts) > 2 and not path.stem.startswith("_"):
            assert parts[2].startswith("_"), f"{path} imports its neighbour {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"
