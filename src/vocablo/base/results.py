"""One rule from a Python result to its JSON object: every public field and property, under its own name."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any


def as_json(value: Any) -> Any:
    """Plain JSON data for a result record: dataclass fields, then public properties; arrays become lists.

    A number that JSON has no word for (infinity, not a number) becomes None, so that every reader can parse the object.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        names += [name for name in _properties(type(value)) if name not in names]
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [as_json(item) for item in value]
    if hasattr(value, "tolist"):
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def _properties(kind: type) -> list[str]:
    return [
        name
        for base in reversed(kind.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, property) and not name.startswith("_")
    ]
