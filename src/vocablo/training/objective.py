"""Which pretext a run has: the recipe's, or the usual one for how the family reads."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from vocablo.base import registry
from vocablo.base.config import Settings, build
from vocablo.base.errors import ConfigError, nearest
from vocablo.training.loop import Pretext
from vocablo.training.recipe import Recipe

PRETEXTS = "vocablo.pretexts"


@dataclass(frozen=True, slots=True)
class Objective:
    """A pretext that is settled but for its text: the file that has it, and its settings."""

    module: ModuleType
    settings: Settings

    def over(self, store: Any, tokenizer: Any, recipe: Recipe) -> Pretext:
        """The pretext over a store."""
        train = recipe.train
        return self.module.Pretext(
            store,
            self.settings,
            tokenizer=tokenizer,
            seed=train.seed,
            batch=train.batch,
            micro=train.micro,
            context=recipe.context,
        )


def choose(recipe: Recipe, reads: str) -> Objective:
    """The recipe's pretext for a family that ``reads`` so.

    Raises ConfigError for an unknown pretext, one of another kind of family, or settings that it doesn't have.
    """
    files = registry.owners(PRETEXTS, "PRETEXTS")
    fitting = [name for name, file in files.items() if reads in registry.constant(PRETEXTS, file, "READS")]
    if reads == "document":
        raise ConfigError(
            f"{recipe.family} learns from labelled documents: "
            f"vocablo finetune classify --model {recipe.family}:{recipe.size or 'small'} --train FILE --out FOLDER."
        )
    if not fitting:
        raise ConfigError(f"There is no pretext yet for a family that reads {reads!r}.")
    name = str(recipe.pretext.get("name", fitting[0]))
    if name not in files:
        raise ConfigError(f"There is no pretext {name!r}{nearest(name, files)}")
    if name not in fitting:
        raise ConfigError(
            f"The pretext {name!r} isn't for {recipe.family}, which reads {reads!r}{nearest(name, fitting)}"
        )
    module = registry.load(PRETEXTS, files[name])
    given = {"order": recipe.data.order} | dict(recipe.pretext) | {"name": name}
    return Objective(module, build(module.Config, given, "pretext"))


def reads(module: ModuleType, config: Any) -> str:
    """How a family reads at a configuration; no weights are made."""
    with torch.device("meta"):
        return module.build(config).reads
