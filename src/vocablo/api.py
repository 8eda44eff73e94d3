"""The Python face: ``load``, ``pretrain``, ``train_tokenizer``; what a loaded model can be asked is in ``inference/``.

Every command of the command line is one of these calls, and its ``--json`` object has the result's attribute names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocablo import checkpoint
from vocablo.arpa import writing
from vocablo.arpa.names import is_arpa
from vocablo.base import config, registry
from vocablo.base.errors import ConfigError, nearest
from vocablo.base.progress import tell
from vocablo.data.readers import read_documents
from vocablo.evaluation import compare as comparing
from vocablo.evaluation import equal as contests
from vocablo.evaluation.files import evaluate
from vocablo.evaluation.models import evaluate as evaluate_model
from vocablo.evaluation.probe import probe
from vocablo.inference.encoder import EncoderModel
from vocablo.inference.finetuned import TaskModel, task_in
from vocablo.inference.interpolate import interpolate
from vocablo.inference.left_model import LanguageModel
from vocablo.inference.sentence_folder import opened
from vocablo.inference.two_way import TwoWayLanguageModel
from vocablo.inference.words import WordModel
from vocablo.inference.writing import WritingModel
from vocablo.inference.writing import writing as writing_model
from vocablo.models.ngram import NGram
from vocablo.nn.quantize import quantize
from vocablo.text.tokenizer import Tokenizer
from vocablo.training import finetune as finetuning
from vocablo.training import finetune_recipe
from vocablo.training import pretrain as pretraining
from vocablo.training import recipe as recipes_room
from vocablo.training.finetune import FinetuneResult
from vocablo.training.material import make_tokenizer
from vocablo.training.pretrain import PretrainResult
from vocablo.vector_files import writing as vectors

__all__ = [
    "EncoderModel",
    "LanguageModel",
    "TaskModel",
    "TwoWayLanguageModel",
    "WordModel",
    "WritingModel",
    "compare",
    "describe",
    "evaluate",
    "evaluate_model",
    "export",
    "finetune",
    "interpolate",
    "load",
    "pretrain",
    "probe",
    "recipes",
    "show_tokenizer",
    "train_and_compare",
    "train_tokenizer",
    "write_arpa",
]

DTYPES = ("fp32", "bf16", "int8")


def load(
    folder_or_name: str | Path, *, dtype: str | None = None
) -> LanguageModel | EncoderModel | TaskModel | TwoWayLanguageModel | WordModel | WritingModel:
    """A model from a folder, an ARPA file (``.arpa``, ``.arpa.gz``) or a hub name, ready to be asked what its family can do.

    A folder of sentence-transformers brings its own way of making vectors along. ``dtype`` is the precision of the weights: ``fp32`` (default), ``bf16``, or ``int8`` (see ``nn/quantize.py``).
    Raises CheckpointError for a folder that can't be read and ConfigError for a model without a tokenizer.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"There is no dtype {dtype!r}{nearest(dtype, DTYPES)}")
    loaded, sentences = opened(folder_or_name)
    model, tokenizer = loaded.model, loaded.tokenizer
    assert tokenizer is not None
    task = task_in(loaded, str(folder_or_name))
    if model.reads == "source_target":
        return _writing(loaded, folder_or_name, task, dtype)
    if task is not None:
        return _for_task(loaded, *task, dtype)
    if model.reads == "left":
        if dtype in ("bf16", "int8"):
            quantize(model, dtype)
        return LanguageModel(model, tokenizer)
    if model.reads == "words":
        if dtype not in (None, "fp32"):
            raise ConfigError("Vectors of words are asked in fp32: leave dtype out.")
        return WordModel(model, tokenizer)
    if model.reads == "two_way":
        if dtype not in (None, "fp32"):
            raise ConfigError("A model that tells words from both sides is asked in fp32: leave dtype out.")
        return TwoWayLanguageModel(model, tokenizer)
    if model.reads != "both":
        raise ConfigError(f"{folder_or_name} reads {model.reads!r}, and nothing here can be asked of that yet.")
    if dtype == "int8":
        raise ConfigError("int8 is for models that write from left to right; an encoder takes fp32 or bf16.")
    for module in (model, *loaded.heads.values()):
        module.to(checkpoint.DTYPES[dtype or "fp32"])
    return EncoderModel(model, tokenizer, loaded.heads, sentences)


def _for_task(loaded: checkpoint.Loaded, name: str, task: Any, dtype: str | None) -> TaskModel:
    if dtype == "int8":
        raise ConfigError("int8 is for models that write from left to right; a fine-tuned one takes fp32 or bf16.")
    for module in (loaded.model, *loaded.heads.values()):
        module.to(checkpoint.DTYPES[dtype or "fp32"])
    return TaskModel(loaded, name, task)


def _writing(loaded: checkpoint.Loaded, where: str | Path, task: Any, dtype: str | None) -> WritingModel:
    if dtype == "int8":
        raise ConfigError("int8 is for models that write from left to right alone; this one takes fp32 or bf16.")
    loaded.model.to(checkpoint.DTYPES[dtype or "fp32"])
    return writing_model(loaded, where, task)


def pretrain(
    family: str,
    *,
    text: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    size: str | None = None,
    recipe: str | None = None,
    init_from: str | Path | None = None,
    tokenizer: str | Path | None = None,
    data: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> PretrainResult:
    """Train a model from text into the folder ``out``.

    ``data`` has the fields of ``DataSettings`` (documents, column, encoding, validation_text, ...), ``overrides`` are
    ``section.key=value`` texts. ``init_from`` is a model's folder or hub name, which is trained further: its
    configuration, tokenizer and heads are kept. With several ``seeds`` one run each is made in ``out/seed-N``.
    ``dry_run`` returns the plan (parameters, tokens, memory, expected time) and trains nothing.
    """
    data = dict(data or {})
    if text is not None:
        data["text"] = [text] if isinstance(text, (str, Path)) else list(text)
    for key in ("text", "validation_text"):
        if data.get(key):
            data[key] = [str(one) for one in data[key]]
    given = {
        "size": size,
        "init_from": None if init_from is None else str(init_from),
        "data": data,
        "tokenizer": {"path": None if tokenizer is None else str(tokenizer)},
        "train": {"minutes": minutes, "steps": steps},
    }
    if resume and out is not None and (stored := Path(out) / "run" / "recipe.toml").exists():
        recipe = str(stored)
    resolved, origin = recipes_room.resolve(family, recipe=recipe, given=given, overrides=overrides)
    order = pretraining.Order(None if out is None else Path(out), tuple(seeds), dry_run, resume, quiet)
    return pretraining.run(resolved, origin, order)


def finetune(
    task: str,
    *,
    model: str | Path,
    train: str | Path,
    dev: str | Path | None = None,
    out: str | Path | None = None,
    columns: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] = 1,
    grid: str | None = None,
    fraction: float | None = None,
    freeze: bool = False,
    features: str | None = None,
    fresh_head: bool = False,
    tokenizer: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> FinetuneResult:
    """Fine-tune a model for a task (classify, regress, tag, span, choose, translate, summarize, answer-text) into ``out``.

    ``model`` is a folder, a hub's name, or FAMILY:SIZE for fresh weights. ``columns`` say where the files have what
    (``tasks/_texts.py``); without ``dev`` a tenth of ``train`` is held out. ``seeds`` are how many (or which) runs are
    made, in ``out/seed-N``; ``grid`` tries a preset of batch, rate and epochs. ``fraction`` learns from a part of the
    examples. ``freeze`` trains the head alone, ``features`` a BiLSTM on some layers of the frozen model.
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ConfigError(f"seeds are one or more, each once; got {seeds}.")
    given = {
        "model": str(model),
        "data": {"train": str(train), "dev": None if dev is None else str(dev), "fraction": fraction},
        "columns": dict(columns or {}),
        "read": {"freeze": freeze or None, "features": features},
        "tokenizer": {"path": None if tokenizer is None else str(tokenizer)},
    }
    recipe, origin = finetune_recipe.resolve(task.replace("-", "_"), given=given, overrides=overrides)
    if isinstance(seeds, int) and seeds == 1:
        chosen = (recipe.train.seed,)
    place = None if out is None else Path(out)
    order = finetuning.Order(place, chosen, grid, fresh_head, dry_run, resume, quiet)
    return finetuning.run(recipe, origin, order)


@dataclass(frozen=True, slots=True)
class TokenizerReport:
    """A tokenizer in numbers, and how it splits a text."""

    kind: str
    size: int
    specials: dict[str, str]
    report: dict[str, Any]
    segmentation: list[str] | None = None
    ids: list[int] | None = None


def train_tokenizer(
    text: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    kind: str = "bpe",
    vocab: int | None = None,
    min_count: int = 1,
    lowercase: bool = False,
    documents: str = "line",
    column: str | None = None,
    encoding: str = "utf-8",
) -> TokenizerReport:
    """Train a tokenizer and save it as a folder that transformers loads too."""
    given = {"kind": kind, "vocab": vocab, "min_count": min_count, "lowercase": lowercase}
    settings = config.build(recipes_room.TokenizerSettings, given, "tokenizer")
    sources = [text] if isinstance(text, (str, Path)) else list(text)

    def texts(notes: Callable[[str], None] | None = None) -> Iterator[str]:
        return (
            document.text
            for document in read_documents(sources, documents=documents, column=column, encoding=encoding, notes=notes)
        )

    tokenizer = make_tokenizer(settings, texts(tell))
    tokenizer.save(Path(out))
    return _report(tokenizer, texts())


def show_tokenizer(folder: str | Path, sentence: str | None = None) -> TokenizerReport:
    """A tokenizer's facts, and how it splits ``sentence``."""
    return _report(Tokenizer.load(Path(folder)), [sentence] if sentence else [], sentence)


def _report(tokenizer: Tokenizer, texts: Any, sentence: str | None = None) -> TokenizerReport:
    split = None if sentence is None else tokenizer.encode(sentence)
    return TokenizerReport(
        tokenizer.kind,
        tokenizer.size,
        tokenizer.specials,
        tokenizer.report(texts),
        None if split is None else list(split.tokens),
        None if split is None else list(split.ids),
    )


def export(folder_or_name: str | Path, path: str | Path, *, quiet: bool = True) -> checkpoint.Description:
    """Write a model as a file that others read: an n-gram as ARPA, word vectors as word2vec or GloVe have them.

    The name says the format: ``vector_files/writing.py`` lists those of vectors. Raises ConfigError for what doesn't fit.
    """
    if is_arpa(path):
        return write_arpa(folder_or_name, path)
    loaded = load(folder_or_name)
    if not isinstance(loaded, WordModel) and isinstance(loaded.model, NGram):
        raise ConfigError(f"An n-gram model is written as .arpa or .arpa.gz; got {Path(path).name!r}.")
    vectors.write(path, loaded.model, loaded.tokenizer, quiet=quiet)
    return describe(path)


def write_arpa(folder_or_name: str | Path, path: str | Path) -> checkpoint.Description:
    """Write an n-gram model as an ARPA file (``.arpa``, or ``.arpa.gz`` to compress it), and say what it holds.

    A cache isn't written, as the format has none. Raises ConfigError for other families.
    """
    loaded = load(folder_or_name)
    writing.write(path, loaded.model, loaded.tokenizer)
    return describe(path)


def describe(folder_or_name: str | Path) -> checkpoint.Description:
    """What a model folder holds, without reading its weights."""
    return checkpoint.describe(str(folder_or_name))


def compare(
    models: Sequence[str | Path],
    text: str | Path | Sequence[str | Path],
    *,
    documents: str = "file",
    column: str | None = None,
    encoding: str = "utf-8",
    stride: int | None = None,
    variant: str = "token",
    quiet: bool = True,
) -> comparing.Comparison:
    """Any models on one held-out text, each kind of score a section of its own: see ``evaluation.compare``.

    ``stride`` is for text over a model's context, ``variant`` of pseudo-log-likelihood (``token``, ``word_l2r``).
    """
    held = comparing.Held(_listed(text), documents, column, encoding)
    return comparing.compare(models, held, load, comparing.How(stride, variant, quiet))


def train_and_compare(
    families: Sequence[str],
    text: str | Path | Sequence[str | Path],
    held_out: str | Path | Sequence[str | Path],
    *,
    equal: tuple[str, float],
    out: str | Path,
    seeds: Sequence[int] = (),
    tokenizer: str | Path | None = None,
    models: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    documents: str = "file",
    column: str | None = None,
    encoding: str = "utf-8",
    stride: int | None = None,
    variant: str = "token",
    quiet: bool = True,
) -> comparing.Comparison:
    """Train families (FAMILY or FAMILY:SIZE) on ``text`` on equal terms into folders of ``out``, and compare them on ``held_out``.

    ``equal`` is (tokens, flops or minutes; how much). ``models`` are ready ones that are compared too. What is finished
    in ``out`` isn't trained again: see ``evaluation.equal``.
    """
    held, how = comparing.Held(_listed(held_out), documents, column, encoding), comparing.How(stride, variant, quiet)
    ready = [str(one) for one in models]
    comparing.check_models(ready)
    comparing.opened(ready, list(held.read()), load, how)
    place = None if tokenizer is None else str(tokenizer)
    learnt = comparing.Held(_listed(text), documents, column, encoding)
    terms = contests.Terms(*equal)
    contest = contests.Contest(
        tuple(families), learnt, held, terms, Path(out), tuple(seeds), place, tuple(overrides), stride, quiet
    )
    entrants = contests.train(contest)
    runs = {one.name: [str(folder) for folder in one.folders] for one in entrants}
    all_models = [*(folder for folders in runs.values() for folder in folders), *ready]
    found = comparing.compare(all_models, held, load, how)
    return dataclasses.replace(found, equal=str(terms), spreads=comparing.spread(found, runs))


def _listed(sources: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(map(str, [sources] if isinstance(sources, (str, Path)) else sources))


@dataclass(frozen=True, slots=True)
class FamilyEntry:
    name: str
    about: str
    sizes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecipeEntry:
    name: str
    family: str
    about: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What ``pretrain`` knows."""

    families: tuple[FamilyEntry, ...]
    recipes: tuple[RecipeEntry, ...]


def recipes() -> Catalogue:
    """The families with their sizes, and the named recipes, read from the registry without importing any model."""
    families = []
    for name, file in recipes_room.families().items():
        about = registry.constant(recipes_room.MODELS, file, "FAMILIES")[name]
        families.append(FamilyEntry(name, about, recipes_room.SIZES))
    named = [
        RecipeEntry(name, values["family"], values.get("about", "")) for name, values in recipes_room.recipes().items()
    ]
    return Catalogue(tuple(families), tuple(named))


def recipe_text(name: str) -> str:
    """The TOML text of a named recipe."""
    from importlib import resources

    if name not in recipes_room.recipes():
        raise ConfigError(f"There is no recipe {name!r}{nearest(name, recipes_room.recipes())}")
    return (resources.files("vocablo") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
