"""Carried state, whatever its shape: nested tuples, lists, mappings and dataclasses with tensors at the leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same structure with every tensor changed; other leaves stay."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return type(tree)({key: map_tensors(change, value) for key, value in tree.items()})  # type: ignore[call-arg]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[map_tensors(change, value) for value in tree])
    if isinstance(tree, (tuple, list)):
        return type(tree)([map_tensors(change, value) for value in tree])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree) if field.init}
        return dataclasses.replace(tree, **{name: map_tensors(change, value) for name, value in fields.items()})
    return tree


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors in the order in which ``map_tensors`` meets them."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, tree)
    return found


def rebuild(template: Any, tensors: Iterator[Tensor]) -> Any:
    """``template``'s structure with its tensors taken from ``tensors``, which ends exactly when the structure does."""
    return map_tensors(lambda _: next(tensors), template)
