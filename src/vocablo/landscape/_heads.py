"""Heads that a published checkpoint keeps beside its trunk, and the class that it is then of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from vocablo.base.errors import ConfigError
from vocablo.landscape._layers import Entry, to_ours, to_theirs
from vocablo.nn.output import head_of, parts_of


@dataclass(frozen=True, slots=True)
class HeadMap:
    """A head kept beside the model: its entries, and its parts as ``nn/output.py`` names them.

    The part ``activation`` is the one of the feed-forwards. ``pooler``: whether their class has one (None: either way).
    """

    entries: tuple[Entry, ...]
    parts: tuple[str, ...] = ("linear",)
    pooler: bool | None = None

    def parts_in(self, config: Any) -> tuple[str, ...]:
        return tuple(config.feed_forward.activation if part == "activation" else part for part in self.parts)


def architecture(layout: ModuleType, config: Any, heads: Collection[str], model_type: str) -> str:
    """Their class for a model with these heads. Raises ConfigError when there is none."""
    key = (*(("lm",) if config.head is not None else ()), *sorted(heads))
    if key not in layout.ARCHITECTURES:
        raise ConfigError(f"This layout has no class for a model with {', '.join(key) or 'no head'}.")
    ours, theirs = getattr(layout, "CLASSES", {}).get(model_type, ("", ""))
    return theirs + layout.ARCHITECTURES[key].removeprefix(ours)


def heads_to_theirs(config: Any, heads: Mapping[str, nn.Module], layout: ModuleType) -> dict[str, Tensor]:
    """Their tensors of the heads. Raises ConfigError for a head of other parts than theirs."""
    tensors: dict[str, Tensor] = {}
    for name, module in heads.items():
        told = layout.HEADS[name]
        if parts_of(module) != told.parts_in(config) or told.pooler not in (None, config.pooler):
            raise ConfigError(f"The published layout has another head {name!r}.")
        tensors |= to_theirs(module.state_dict(), told.entries)
    return tensors


def heads_to_ours(
    config: Any, tensors: dict[str, Tensor], layout: ModuleType, classes: Collection[str] = ()
) -> dict[str, nn.Module]:
    """The heads whose tensors are all there; they are taken out of ``tensors``.

    Several heads have tensors of one name (``classifier``): ``classes``, their ``architectures``, say which one it is.
    """
    renamed = set(getattr(layout, "CLASSES", {}).values())
    named: set[str] = set()
    for key, their_class in layout.ARCHITECTURES.items():
        spelled = {their_class} | {new + their_class.removeprefix(old) for old, new in renamed}
        named |= set(key) if spelled & set(classes) else set()
    heads = {}
    for name, told in sorted(layout.HEADS.items(), key=lambda item: item[0] not in named):
        names = [each for entry in told.entries for each in entry.names]
        if all(each in tensors for each in names):
            ours = to_ours({each: tensors.pop(each) for each in names}, told.entries)
            heads[name] = head_of(told.parts_in(config), ours)
    return heads
