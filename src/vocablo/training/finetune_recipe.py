"""Everything that defines a fine-tuning run, with overrides and where each value came from; and BERT's grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from vocablo.base import config, registry
from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.tasks._reading import ReadSettings
from vocablo.tasks._texts import Columns
from vocablo.training.recipe import MODELS, TokenizerSettings, families, without_none
from vocablo.training.settings import TrainSettings

TASKS = "vocablo.tasks"
# Devlin et al. 2019, appendix A.3: all of these are tried and the best on the development set is taken.
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "bert": {"batch": (16, 32), "lr": (5e-5, 3e-5, 2e-5), "epochs": (2, 3, 4)},
}
# As BERT is fine-tuned, but for what depends on where the weights come from.
USUAL = {"epochs": 3, "batch": 32, "warmup": 0.1, "schedule": "linear", "weight_decay": 0.01, "betas": (0.9, 0.999)}
RATES = {"pre-trained": 5e-5, "fresh": 5e-4, "frozen": 1e-3}
# Of a task that writes texts, whose weights are most often fresh: the original Transformer's optimizer and schedule.
PAIRS = {
    "epochs": 20, "batch_tokens": 4096, "warmup": 0.1, "schedule": "inverse-sqrt", "weight_decay": 0.0, "betas": (0.9, 0.98),
    "eps": 1e-9, "lr": 1e-3,
}  # fmt: skip


class DataSettings(Settings):
    """The examples: a file to learn from and a held-out one (None: ``holdout`` of the first, drawn by lot).

    ``fraction`` learns from so much of the training examples, drawn by lot for each seed.
    """

    train: str
    dev: str | None = None
    holdout: float = Field(default=0.1, ge=0, lt=0.9)
    fraction: float = Field(default=1.0, gt=0, le=1)


class Recipe(Settings):
    """One fine-tuning. ``model`` is a folder, a hub's name, or FAMILY:SIZE for fresh weights.

    ``task`` has the task's name and its settings, ``architecture`` changes to the configuration of fresh weights.
    ``measure`` chooses the best model: one of the task's, or loss; None: the task's first.
    """

    task: dict[str, Any]
    model: str
    data: DataSettings
    columns: Columns = Columns()
    read: ReadSettings = ReadSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    architecture: dict[str, Any] = Field(default_factory=dict)
    measure: str | None = None
    train: TrainSettings


def fresh(model: str) -> tuple[str, str] | None:
    """Family and size, where ``model`` is FAMILY:SIZE."""
    family, colon, size = model.partition(":")
    return (family, size) if colon and family.replace("-", "_").isidentifier() and size.isidentifier() else None


def usual_of(model: str) -> Mapping[str, Any]:
    """What a family's file says of fine-tuning its fresh weights (``FINETUNE``); nothing for other models."""
    named = fresh(model)
    file = None if named is None else families().get(named[0])
    return {} if file is None else registry.constant(MODELS, file, "FINETUNE") or {}


def resolve(task: str, *, given: Mapping[str, Any], overrides: Sequence[str]) -> tuple[Recipe, dict[str, str]]:
    """Join default < command line into a Recipe. Returns it and where each value came from."""
    if task not in registry.names(TASKS):
        raise ConfigError(f"There is no task {task!r}{nearest(task, registry.names(TASKS))}")
    asked, _ = config.merge([("", without_none(given)), ("", config.overrides(overrides))])
    read = asked.get("read")
    frozen = isinstance(read, Mapping) and (read.get("freeze") or read.get("features"))
    kind = "frozen" if frozen else "fresh" if fresh(str(asked.get("model", ""))) else "pre-trained"
    own = {
        key: value for key, value in usual_of(str(asked.get("model", ""))).items() if key in TrainSettings.model_fields
    }
    usual: dict[str, Any] = {"task": {"name": task}, "train": {**USUAL, "lr": RATES[kind], **own}}
    pairs, train = registry.constant(TASKS, task, "PAIRS"), asked.get("train")
    if pairs:
        usual["train"] |= {**PAIRS, **own} if kind == "fresh" else {"batch_tokens": PAIRS["batch_tokens"]}
        if isinstance(train, Mapping) and "batch" in train:
            del usual["train"]["batch_tokens"]
    if isinstance(train, Mapping) and ("steps" in train or "minutes" in train):
        del usual["train"]["epochs"]
    values, origin = config.merge([("default", usual), ("command line", asked)])
    if values["task"].get("name") != task:
        raise ConfigError(f"task.name is {values['task'].get('name')!r}, and the task asked for is {task!r}.")
    return config.build(Recipe, values, "recipe"), origin


def settings_of(recipe: Recipe, module: Any) -> Settings:
    """The task's own settings. Raises ConfigError for a key that it doesn't know."""
    return config.build(module.Config, {key: value for key, value in recipe.task.items() if key != "name"}, "task")


def grid(name: str | None) -> Iterator[dict[str, Any]]:
    """The changes to ``train`` that a grid asks for, one mapping a run; no grid is one run without changes."""
    if name is None:
        yield {}
        return
    if name not in GRIDS:
        raise ConfigError(f"There is no grid {name!r}{nearest(name, GRIDS)}")
    axes = GRIDS[name]
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))
