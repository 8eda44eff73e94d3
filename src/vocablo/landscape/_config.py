"""A configuration of ours from theirs, and the certainty that theirs says it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from vocablo.base.config import build
from vocablo.base.errors import ConfigError
from vocablo.landscape._layers import Entry, require_same, unknown_keys
from vocablo.models.transformer import Config

Reader = Callable[[Mapping[str, Any], Collection[str]], tuple[Config, list[str]]]


def number(theirs: Mapping[str, Any], key: str, default: int, what: str) -> int:
    """A whole number of theirs that is reckoned with before our fields check it. Raises ConfigError for anything else."""
    value = theirs.get(key, default)
    if not isinstance(value, int) or value < 0:
        raise ConfigError(f"{what}'s {key} has to be a whole number; it is {value!r}.")
    return value


def made(
    fields: dict[str, Any], theirs: Mapping[str, Any], known: Collection[str], what: str
) -> tuple[Config, list[str]]:
    """The configuration, and their keys that nobody knows."""
    return build(Config, fields, f"{what}'s configuration"), unknown_keys(theirs, known)


def checked(
    config: Config, theirs: dict[str, Any], read_again: Reader, entries: list[Entry], what: str
) -> dict[str, Any]:
    """``theirs``, once it is sure that it says ``config`` when it is read again. Raises ConfigError otherwise."""
    names = {name for entry in entries for name in entry.names}
    require_same(config, read_again(theirs, names)[0], what)
    return theirs
