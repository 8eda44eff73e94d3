"""A recipe: everything that defines a pre-training run, read from TOML, with overrides, and where each value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vocablo.base import config, registry
from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, nearest
from vocablo.training.settings import TrainSettings

MODELS = "vocablo.models"
CONTINUED = "-continued"  # ends the name of a family's recipe for a model that is trained further
LENGTHS = ("steps", "epochs", "minutes")  # a run is as long as exactly one of these says
SIZES = ("tiny", "mini", "small", "medium", "base", "large")


class TokenizerSettings(Settings):
    """The tokenizer to train, or ``path`` of a ready one."""

    path: str | None = None
    kind: str = "bpe"
    vocab: int | None = Field(
        default=None, ge=2
    )  # None: everything for words and characters, for pieces see text/kinds.py
    min_count: int = Field(default=1, ge=1)
    lowercase: bool = False
    split: Literal["punctuation", "whitespace"] = "punctuation"  # for kind = "word"
    mask: bool = False  # a mask token, <mask>, for a kind that has none of its own
    sentinels: int = Field(default=0, ge=0)  # T5's <extra_id_0>, ...: what stands for missing spans


class DataSettings(Settings):
    """The text, what one document is, and what is held out: files, or the last part of the text."""

    text: tuple[str, ...] = ()
    documents: Literal["file", "line", "paragraph"] = "file"
    column: str | None = None
    encoding: str = "utf-8"
    validation_text: tuple[str, ...] = ()
    validation: float = Field(default=0.05, ge=0, lt=0.9)
    order: Literal["shuffled", "carried", "documents", "sentences"] = "shuffled"  # how the pretext cuts the text


class Recipe(Settings):
    """One run. ``model`` are changes to the family's configuration at this size; ``context`` is in tokens.

    ``pretext`` is the objective: its ``name`` (None: the usual one of the family) and its settings. ``init_from`` is a
    model's folder or name to go on from; size, tokenizer and configuration are then that model's.
    """

    family: str
    size: Literal["tiny", "mini", "small", "medium", "base", "large"] | None = "small"
    about: str = ""
    init_from: str | None = None
    context: int = Field(default=256, ge=2)
    tokenizer: TokenizerSettings = TokenizerSettings()
    data: DataSettings = DataSettings()
    pretext: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    train: TrainSettings = TrainSettings(steps=2000)


def families() -> dict[str, str]:
    """Family name as given to ``pretrain`` -> the file of ``models/`` that has it."""
    return registry.owners(MODELS, "FAMILIES")


def recipes() -> dict[str, Mapping[str, Any]]:
    """Every named recipe of the package: name -> its mapping."""
    folder = resources.files("vocablo") / "recipes"
    return {
        Path(entry.name).stem: config.read_toml(Path(str(entry)))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def resolve(
    family: str, *, recipe: str | None, given: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[Recipe, dict[str, str]]:
    """Join default < recipe < command line into a Recipe. Returns it and where each value came from.

    ``recipe`` is a name or a TOML file; None takes the family's own, when there is one: FAMILY-continued for a model that
    is trained further, else FAMILY. A recipe's name in the place of ``family`` is short for its family and itself. ``given`` are the command's options as a nested mapping (None left out),
    ``overrides`` are ``section.key=value`` texts.
    """
    named = recipes()
    if family not in families() and family in named:
        recipe, family = recipe or family, str(named[family]["family"])
    if family not in families():
        raise ConfigError(f"There is no family {family!r}{nearest(family, [*families(), *named])}")
    layers: list[tuple[str, Mapping[str, Any]]] = [("default", {"family": family, "train": {"steps": 2000}})]
    asked, _ = config.merge([("", without_none(given)), ("", config.overrides(overrides))])
    if recipe is None:
        own = f"{family}{CONTINUED}" if asked.get("init_from") and f"{family}{CONTINUED}" in named else family
        if own in named:
            layers.append((f"recipe {own}", named[own]))
    elif recipe in named:
        layers.append((f"recipe {recipe}", named[recipe]))
    elif Path(recipe).suffix == ".toml":
        layers.append((recipe, config.read_toml(Path(recipe))))
    else:
        raise ConfigError(f"There is no recipe {recipe!r}{nearest(recipe, named)}; or give a .toml file.")
    layers.append(("command line", asked))
    values, origin = config.merge(_last_pretext(_last_length(layers)))
    if recipe in named and recipe.endswith(CONTINUED) and not values.get("init_from"):
        raise ConfigError(f"The recipe {recipe!r} trains a model further: say which one with --from.")
    if values["family"] != family:
        raise ConfigError(f"The recipe {recipe!r} is for {values['family']!r}, not for {family!r}.")
    if values.get("size") is not None and values["size"] not in SIZES:
        raise ConfigError(f"There is no size {values['size']!r}{nearest(values['size'], SIZES)}")
    return config.build(Recipe, values, "recipe"), origin


def _last_length(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The layers without the run lengths that a later layer replaces by one of another kind (minutes for steps, say)."""
    kept: list[tuple[str, Mapping[str, Any]]] = []
    replaced = False
    for name, values in reversed(layers):
        train = values.get("train", {})
        train = train if isinstance(train, Mapping) else {}  # what isn't a section is refused later, by its name
        if replaced:
            values = {**values, "train": {key: value for key, value in train.items() if key not in LENGTHS}}
        replaced = replaced or any(key in train for key in LENGTHS)
        kept.append((name, values))
    return kept[::-1]


def _last_pretext(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The layers without the pretext settings of a layer before one that names another pretext.

    ``pretext = "masked"`` is short for a section with this name alone.
    """
    kept: list[tuple[str, Mapping[str, Any]]] = []
    chosen: Any = None
    for name, values in reversed(layers):
        pretext = values.get("pretext")
        if isinstance(pretext, str):
            pretext = {"name": pretext}
            values = {**values, "pretext": pretext}
        if isinstance(pretext, Mapping):
            if chosen is not None and pretext.get("name") != chosen:
                values = {key: value for key, value in values.items() if key != "pretext"}
            chosen = chosen or pretext.get("name")
        kept.append((name, values))
    return kept[::-1]


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping without the keys whose value is None, or an empty section."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            value = without_none(value) or None
        if value is not None:
            kept[key] = value
    return kept
