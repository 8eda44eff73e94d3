"""Families on equal terms: each trained on one text with one tokenizer, at equal tokens, FLOPs or minutes, to be compared.

    tokens    every family reads so many in training
    flops     ``flops_per_token`` at the run's context x tokens: a small model reads more of the text than a large one
    minutes   on this machine, evaluations included

Each has its own recipe's settings (rate, context, order of the text). Counted families, which have no steps, read the whole
text once whatever is asked. What is equal becomes a number of steps before the first one, so a run that was cut off goes on
as it would have.

OUT/compare.json, OUT/tokenizer/, OUT/text/     what all share
OUT/FAMILY-SIZE/, OUT/FAMILY-SIZE-seed-N/       a model each; a finished one of the same recipe isn't trained again
"""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from vocablo.base import config, files, registry
from vocablo.base.errors import ConfigError, nearest
from vocablo.base.progress import tell
from vocablo.evaluation.compare import Held, check_texts
from vocablo.evaluation.scorers import SCORERS
from vocablo.pretexts._rows import crc32
from vocablo.text.tokenizer import Tokenizer
from vocablo.training import objective, pretrain
from vocablo.training.material import Material, make_tokenizer, prepare
from vocablo.training.recipe import LENGTHS, MODELS, Recipe, TokenizerSettings, families, resolve
from vocablo.training.run import RunFolder, holds_run
from vocablo.training.start import Start

UNITS = ("tokens", "flops", "minutes")
MARKER = "compare.json"
ENCODERS = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}  # what a tokenizer gets where it lacks them


@dataclass(frozen=True, slots=True)
class Terms:
    """What families are to be equal in: ``amount`` of a unit (``UNITS``)."""

    unit: str
    amount: float

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(f"Families can't be equal in {self.unit!r}{nearest(self.unit, UNITS)}")
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise ConfigError(f"--equal {self.unit} needs a number above 0; got {self.amount:g}.")

    def __str__(self) -> str:
        return f"at equal {'FLOPs' if self.unit == 'flops' else self.unit}: {self.amount:,.10g} each"


@dataclass(frozen=True, slots=True)
class Contest:
    """Which ``families`` (FAMILY or FAMILY:SIZE) learn ``text``, on which terms and where to, to be compared on ``held_out``.

    ``overrides`` are those of ``pretrain``, for every family; FAMILY.section.key=value is for one alone. With several
    ``seeds`` each family that has steps is trained once with each.
    """

    families: tuple[str, ...]
    text: Held
    held_out: Held
    terms: Terms
    out: Path
    seeds: tuple[int, ...] = ()
    tokenizer: str | None = None
    overrides: tuple[str, ...] = ()
    stride: int | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Entrant:
    """A family and its runs: ``folders`` has one of each seed."""

    name: str
    folders: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    """One model to be trained."""

    recipe: Recipe
    origin: dict[str, str]
    folder: Path
    counted: bool


def train(contest: Contest) -> list[Entrant]:
    """Train what isn't trained yet. Raises before the first run for whatever can be known then."""
    named = _named(contest)
    _check(contest)
    contest.text.read()  # looks into the files
    unseen = list(contest.held_out.read(contest.quiet))
    names = []
    for family, size in named:  # with a vocabulary that isn't known yet: unknown sizes and settings are refused here
        recipe, _ = _resolved(contest, family, size, {})
        _reads(recipe, pretrain.PLACEHOLDER, None)
        names.append((family, recipe.size))
    if len(set(names)) < len(names):
        raise ConfigError(f"A family is named twice in {' '.join(contest.families)}.")
    material = _material(contest, named)
    entrants, runs = [], []
    for family, size in named:
        made = list(_runs(contest, family, size, material))
        entrants.append(Entrant(made[0].folder.name.partition("-seed-")[0], tuple(one.folder for one in made)))
        runs += made
    for one in runs:
        _check_folder(one)
        _check_length(one, material.tokenizer, unseen, contest.stride)
    _mark(contest.out, terms=_said(contest.terms))
    for one in runs:
        _train(one, contest)
    return entrants


def _named(contest: Contest) -> list[tuple[str, str | None]]:
    if not contest.families:
        raise ConfigError("Which families? Name them as FAMILY or FAMILY:SIZE, e.g. --train ngram lstm:tiny gpt:tiny.")
    named = []
    for one in contest.families:
        family, _, size = one.partition(":")
        if family not in families():
            raise ConfigError(f"There is no family {family!r}{nearest(family, families())}")
        named.append((family, size or None))
    return named


def _check(contest: Contest) -> None:
    if len(set(contest.seeds)) != len(contest.seeds):
        raise ConfigError(f"The seeds {' '.join(map(str, contest.seeds))} repeat.")
    for one in contest.overrides:
        path, _ = config.parse_override(one)
        alone = path[0] in families()
        if alone and path[0] not in (family.partition(":")[0] for family in contest.families):
            raise ConfigError(f"{one}: {path[0]} isn't among the families of --train, {' '.join(contest.families)}.")
        path = path[1:] if alone else path
        if path[:1] == ["train"] and path[-1] in (*LENGTHS, "seed"):
            raise ConfigError(f"{one}: how long and with which seed is said by --equal and --seeds.")
        if path[:1] == ["tokenizer"] and contest.tokenizer is not None:
            raise ConfigError(f"{one}: the tokenizer {contest.tokenizer} is ready; leave out one of the two.")
        if alone and path[:1] in (["tokenizer"], ["data"]) and path != ["data", "order"]:
            raise ConfigError(f"{one}: all families share the text and the tokenizer; leave the family's name out.")
    if contest.out.exists() and not (contest.out / MARKER).exists() and any(contest.out.iterdir()):
        raise ConfigError(f"{contest.out} holds something else than an earlier comparison: choose another folder.")


def _resolved(
    contest: Contest, family: str, size: str | None, more: Mapping[str, Any]
) -> tuple[Recipe, dict[str, str]]:
    """A family's recipe: its own, what the command says, and ``more``."""
    counted, text = _counted(family), contest.text
    own = [one.removeprefix(f"{family}.") for one in contest.overrides if one.startswith(f"{family}.")]
    shared = [one for one in contest.overrides if config.parse_override(one)[0][0] not in families()]
    shared = [one for one in shared if not one.startswith("tokenizer.")]
    if counted:  # what is said of steps for all isn't for it
        shared = [one for one in shared if not one.startswith(("train.", "pretext.", "model."))]
    given: dict[str, Any] = {
        "size": size,
        "data": {
            "text": list(text.sources), "documents": text.documents, "column": text.column, "encoding": text.encoding,
        },
    }  # fmt: skip
    given, _ = config.merge([("", given), ("", more)])
    pretext = [] if counted or any(one.startswith("pretext") for one in (*own, *shared)) else _pretext(family)
    return resolve(family, recipe=None, given=given, overrides=[*pretext, *shared, *own])


def _pretext(family: str) -> list[str]:
    """What is scored is what is trained: an encoder tells hidden words, without sentences that follow."""
    masked = registry.constant("vocablo.pretexts", "masked", "READS")
    recipe, _ = resolve(family, recipe=None, given={}, overrides=())
    return ["pretext.name=masked"] if _reads(recipe, pretrain.PLACEHOLDER, None) in masked else []


def _counted(family: str) -> bool:
    return bool(registry.constant(MODELS, families()[family], "COUNTED"))


def _model(recipe: Recipe, vocab: int, tokenizer: Tokenizer | None) -> Any:
    """The model without its weights."""
    start = Start.of(recipe)
    with torch.device("meta"):
        return start.module.build(start.config(recipe, vocab, tokenizer))


def _reads(recipe: Recipe, vocab: int, tokenizer: Tokenizer | None) -> str:
    """How a family reads. Raises ConfigError for one that gives a text no probability."""
    reads = _model(recipe, vocab, tokenizer).reads
    if reads not in SCORERS:
        raise ConfigError(f"{recipe.family} reads {reads!r} and gives a text no probability to compare: leave it out.")
    return reads


def _material(contest: Contest, named: Sequence[tuple[str, str | None]]) -> Material:
    """The tokenizer and the token store that all share; those of an earlier call where there was one."""
    out, place = contest.out, contest.out / "tokenizer"
    said = [one for one in contest.overrides if one.startswith("tokenizer.")]
    settings = config.build(TokenizerSettings, config.overrides(said).get("tokenizer", {}), "tokenizer")
    asked = {"tokenizer": contest.tokenizer or settings.model_dump(), "terms": _said(contest.terms)}
    known = _marked(out)
    changed = [key for key in asked if key in known and known[key] != asked[key]]
    if changed:
        raise ConfigError(f"{out} was begun with another {' and '.join(changed)}: choose another --out, or delete it.")
    if not known or not (place / "tokenizer.json").exists():
        tokenizer = _tokenizer(contest, settings, named)
        _mark(out, tokenizer=asked["tokenizer"])
        tokenizer.save(place)
    recipe, _ = _resolved(contest, *named[0], {"tokenizer": {"path": str(place)}})
    material = prepare(recipe, out / "text", None, keep=False, quiet=contest.quiet)
    sums = {"tokens": len(material.train.tokens), "crc32": crc32(material.train.tokens)}
    if known.get("text", sums) != sums:
        raise ConfigError(f"The text isn't the one that {out} was begun with: choose another --out, or delete it.")
    _mark(out, text=sums)
    return material


def _said(terms: Terms) -> list[str | float]:
    return [terms.unit, terms.amount]


def _marked(out: Path) -> dict[str, Any]:
    """What the folder was begun with: the tokenizer, the text, and once its runs are planned the terms."""
    marker = out / MARKER
    return json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}


def _mark(out: Path, **more: Any) -> None:
    files.write_text(out / MARKER, json.dumps({**_marked(out), **more}) + "\n")


def _tokenizer(contest: Contest, settings: TokenizerSettings, named: Sequence[tuple[str, str | None]]) -> Tokenizer:
    """A ready one, or one trained on the text; with an encoder's special tokens where a family needs them."""
    if contest.tokenizer is not None:
        return Tokenizer.load(Path(contest.tokenizer))
    tokenizer = make_tokenizer(settings, contest.text.read(contest.quiet))
    both = any(_reads(_resolved(contest, *one, {})[0], pretrain.PLACEHOLDER, None) == "both" for one in named)
    return tokenizer.with_roles(ENCODERS) if both else tokenizer


def _runs(contest: Contest, family: str, size: str | None, material: Material) -> Iterator[_Run]:
    tokenizer = {"tokenizer": {"path": str(contest.out / "tokenizer")}}
    recipe, origin = _resolved(contest, family, size, tokenizer)
    _reads(recipe, material.tokenizer.size, material.tokenizer)
    name = f"{family}-{recipe.size}"
    if _counted(family):
        yield _Run(recipe, origin, contest.out / name, True)
        return
    length = {"minutes": contest.terms.amount} if contest.terms.unit == "minutes" else {"steps": _steps(recipe, material, contest.terms)}  # fmt: skip
    for seed in contest.seeds or (recipe.train.seed,):
        folder = name if len(contest.seeds) < 2 else f"{name}-seed-{seed}"
        more = {**tokenizer, "train": {**length, "seed": seed}}
        recipe, origin = _resolved(contest, family, size, more)
        yield _Run(recipe, origin, contest.out / folder, False)


def _steps(recipe: Recipe, material: Material, terms: Terms) -> int:
    """How many steps come nearest to the amount, at least one; a step's tokens are the mean over an epoch."""
    model = _model(recipe, material.tokenizer.size, material.tokenizer)
    pretext = objective.choose(recipe, model.reads).over(material.train, material.tokenizer, recipe)
    each = pretext.tokens / pretext.steps_per_epoch
    each *= model.flops_per_token(recipe.context) if terms.unit == "flops" else 1
    if terms.amount < each / 2:
        raise ConfigError(
            f"--equal {terms.unit} {terms.amount:g} is less than half a step of {recipe.family}, which takes {each:.3g}: "
            "give more, or a smaller train.batch."
        )
    return round(terms.amount / each) or 1


def _state(one: _Run) -> str | None:
    """Whether a run was begun: None, or its status."""
    if not holds_run(one.folder):
        return None
    return RunFolder(one.folder, writes=False).read_state().get("status", "begun")


def _check_folder(one: _Run) -> None:
    """Raise ConfigError when the folder holds a run of another recipe."""
    if not holds_run(one.folder):
        return
    then = _flat(RunFolder(one.folder, writes=False).recipe())
    now = _flat(tomllib.loads(config.to_toml(one.recipe.model_dump(exclude_none=True))))
    changed = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if changed:
        told = ", ".join(f"{key} was {then.get(key)} and is {now.get(key)}" for key in changed[:3])
        raise ConfigError(f"{one.folder} was trained otherwise ({told}): choose another --out, or delete that folder.")


def _check_length(one: _Run, tokenizer: Tokenizer, texts: Sequence[str], stride: int | None) -> None:
    """Raise for a held-out text that the model won't be able to read whole."""
    model = _model(one.recipe, tokenizer.size, tokenizer)
    asked = SimpleNamespace(model=model, tokenizer=tokenizer)
    check_texts(f"{one.folder.name}, on the held-out text", SCORERS[model.reads], asked, texts, stride)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def _train(one: _Run, contest: Contest) -> None:
    state = _state(one)
    if not contest.quiet:
        tell(f"{one.folder.name} " + ("is trained already" if state == "finished" else "..."))
    if state == "finished":
        return
    if one.counted and one.folder.exists():  # counting that was cut off begins anew
        shutil.rmtree(one.folder)
    resume = state is not None and not one.counted
    order = pretrain.Order(one.folder, resume=resume, quiet=contest.quiet, material=contest.out / "text")
    pretrain.run(one.recipe, one.origin, order)
