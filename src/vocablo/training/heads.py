"""What becomes of a model's heads when it is trained further: told once, so that none is dropped or made anew in silence."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

OUTPUT, POOLER = "output layer", "pooler"


def heads_of(model: Any, heads: Collection[str]) -> set[str]:
    """Names of what stands on an encoder's states: its output layer and pooler, and the ``heads`` kept beside it."""
    config = model.config
    own = {OUTPUT: getattr(config, "head", None) is not None, POOLER: bool(getattr(config, "pooler", False))}
    return {*heads, *(name for name, there in own.items() if there)} if model.reads == "both" else set(heads)


def remark(where: str, before: set[str], after: set[str], untrained: Collection[str] = ()) -> str | None:
    """One line on what was there ``before`` and isn't ``after``, what is fresh, and what is kept as it was; or None."""
    parts = {
        "left out": before - after,
        "kept and not trained": after & before & set(untrained),
        "not in it and therefore fresh": after - before,
    }
    told = [f"{what}: {', '.join(sorted(names))}" for what, names in parts.items() if names]
    return f"heads of {where}, {'; '.join(told)}" if told else None
