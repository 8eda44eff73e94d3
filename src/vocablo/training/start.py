"""What a run's model is before its first step: fresh weights, or those of a model that is trained further."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.errors import ConfigError
from vocablo.base.random import seed_for
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.inputs import take
from vocablo.training.recipe import MODELS, Recipe, families
from vocablo.training.run import RunFolder


@dataclass(frozen=True, slots=True)
class Start:
    """A family's file and, for a model that is trained further, that model, its heads and its tokenizer."""

    module: ModuleType
    model: Any = None
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None

    @classmethod
    def of(cls, recipe: Recipe, resumed: Path | None = None) -> Start:
        """Where a recipe starts; ``resumed``, a run that is gone on with, has a copy of the model that it began from.

        Raises ConfigError when the model that is to be trained further is of another family or its tokenizer is missing.
        """
        module = registry.load(MODELS, families()[recipe.family])
        if recipe.init_from is None:
            return cls(module)
        own = None if resumed is None else RunFolder(resumed, writes=False)
        steps = [] if own is None else own.checkpoints()
        where = recipe.init_from if own is None or not steps else own.path(steps[0])
        loaded = checkpoint.load(where)
        found = type(loaded.model).__module__.rpartition(".")[2]
        family = registry.load(MODELS, found).family_of(loaded.model.config)
        if family != recipe.family:
            raise ConfigError(
                f"{recipe.init_from} is of the family {family!r}, not {recipe.family!r}: pretrain {family}."
            )
        if registry.constant(MODELS, found, "COUNTED"):
            raise ConfigError(f"{family} is counted and can't be trained further: count all texts together instead.")
        return cls(module, loaded.model, loaded.heads, _tokenizer(recipe, loaded))

    def config(self, recipe: Recipe, vocab: int, tokenizer: Tokenizer | None = None) -> Any:
        """The model's configuration for a vocabulary.

        A family that has a ``boundary`` or an ``unknown`` token in its configuration is told the tokenizer's, and one that
        writes targets what they begin with.
        """
        if self.model is not None:
            return self.model.config
        told = {} if tokenizer is None else {"boundary": tokenizer.end_id, "unknown": tokenizer.unk_id}
        known = {
            key: value for key, value in told.items() if key in self.module.Config.model_fields and value is not None
        }
        changes = known | take(self.module, recipe.model)[0]
        config = self.module.config_for(recipe.family, recipe.size, vocab, recipe.context, changes)
        writes = hasattr(config, "paired") and getattr(config, "decoder", None) is not None
        if writes and tokenizer is not None and tokenizer.end_id is not None:
            return config.paired((tokenizer.end_id,))  # a target begins with what ends it, as a document does
        return config

    def make(self, config: Any, seed: int) -> Any:
        """The model of one seed; what is drawn next (a head) comes from that seed too."""
        torch.manual_seed(seed_for(seed, "init"))
        if self.model is None:
            return self.module.build(config)
        model = copy.deepcopy(self.model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in getattr(model, "fixed", ()))
        return model.train()


def _tokenizer(recipe: Recipe, loaded: checkpoint.Loaded) -> Tokenizer:
    path = recipe.tokenizer.path
    given = None if path is None else Tokenizer.load(Path(path))
    if loaded.tokenizer is None:
        if given is None:
            raise ConfigError(f"{recipe.init_from} has no tokenizer: give the model's own with --tokenizer.")
        if given.size > loaded.model.vocab:
            raise ConfigError(
                f"{path} has {given.size} tokens and {recipe.init_from} knows {loaded.model.vocab}: they don't belong together."
            )
        return given
    if given is not None and given.hash != loaded.tokenizer.hash:
        raise ConfigError(
            f"{path} isn't the tokenizer of {recipe.init_from}, whose weights know no other vocabulary: leave --tokenizer out."
        )
    return loaded.tokenizer
