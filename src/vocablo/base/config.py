"""Strict settings: pydantic models that refuse unknown keys, TOML recipes, dotted overrides, provenance.

Precedence is default < recipe < command line. An unknown key is an error that names the nearest known one: a key that is
silently ignored costs its owner a training run.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from vocablo.base.errors import ConfigError, nearest


class Settings(BaseModel):
    """A frozen record of settings that refuses keys it doesn't know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def read_toml(path: Path) -> dict[str, Any]:
    """The mapping of a TOML file. Raises ConfigError when it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no recipe file {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} isn't valid TOML: {error}") from None


def parse_override(text: str) -> tuple[list[str], Any]:
    """``"train.lr=3e-4"`` -> (["train", "lr"], 0.0003). The value is read as TOML, else taken as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"An override is written section.key=value; got {text!r}.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return key.strip().split("."), parsed


def merge(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Join mappings, later ones winning. Returns the result and, per dotted key, the name of the layer it came from."""
    result: dict[str, Any] = {}
    origin: dict[str, str] = {}

    def put(into: dict[str, Any], values: Mapping[str, Any], name: str, path: str) -> None:
        for key, value in values.items():
            dotted = f"{path}{key}"
            if isinstance(value, Mapping):
                if not isinstance(into.get(key), dict):
                    into[key] = {}
                put(into[key], value, name, dotted + ".")
            else:
                into[key] = value
                origin[dotted] = name

    for name, values in layers:
        put(result, values, name, "")
    return result, origin


def overrides(texts: Iterable[str]) -> dict[str, Any]:
    """A nested mapping from ``section.key=value`` texts."""
    tree: dict[str, Any] = {}
    for text in texts:
        path, value = parse_override(text)
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"The override {text!r} treats {part!r} as a section, but it was given a value too.")
        node[path[-1]] = value
    return tree


def build(kind: type[S], values: Mapping[str, Any], where: str = "settings") -> S:
    """Make ``kind`` from a mapping; every problem is reported at once, as one ConfigError."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(kind, item) for item in error.errors())) from None


def _explain(kind: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    dotted = ".".join(path)
    if item["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}{nearest(path[-1], _fields_at(kind, path[:-1]))}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] in ("model_type", "dict_type"):
        return f"{dotted} is a section: write {dotted}.key=value (got {item['input']!r})"
    if isinstance(item["input"], (Mapping, BaseModel)):  # a rule about several keys: it names them itself
        return f"{dotted}: {message}" if dotted else message
    return f"{dotted}: {message} (got {item['input']!r})"


def _fields_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(part)
        if field is None:
            continue  # a union's discriminator, not a field
        options = [field.annotation, *get_args(field.annotation)]
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return []
        kind = inner[0]
    return list(kind.model_fields)


def to_toml(values: Mapping[str, Any], origin: Mapping[str, str] | None = None) -> str:
    """TOML text of a nested mapping (None left out); with ``origin``, each line says where its value came from."""
    lines: list[str] = []

    def put(section: Mapping[str, Any], path: str) -> None:
        nested = {key: value for key, value in section.items() if isinstance(value, Mapping)}
        plain = {key: value for key, value in section.items() if key not in nested and value is not None}
        if path and plain:
            lines.append(f"\n[{path}]")
        for key, value in plain.items():
            note = (origin or {}).get(f"{path}.{key}" if path else key)
            lines.append(f"{key} = {_toml_value(value)}" + (f"  # {note}" if note else ""))
        for key, value in nested.items():
            put(value, f"{path}.{key}" if path else key)

    put(values, "")
    return "\n".join(lines).strip() + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)
