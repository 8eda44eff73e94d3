"""Pre-training from text, whole: recipe -> tokenizer -> token store -> model -> run -> folder.

OUT/                    the finished model
OUT/run/tokenizer/      the tokenizer as trained (a resumed run reads it here)
OUT/run/store/          the token stores, reused when the text hasn't changed
OUT/run/...             the run itself (``training.run``)
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocablo import checkpoint
from vocablo.base import files, registry
from vocablo.base.errors import ConfigError, DataError, TrainingError
from vocablo.base.progress import Progress, tell
from vocablo.base.random import seed_for
from vocablo.data.readers import read_documents
from vocablo.data.store import Store
from vocablo.inference.generate import GenerateSettings, generate
from vocablo.inference.reading import carried
from vocablo.pretexts import causal
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.plan import Plan
from vocablo.training.plan import plan as measure
from vocablo.training.recipe import LENGTHS, MODELS, DataSettings, Recipe, TokenizerSettings, families
from vocablo.training.run import RunFolder, holds_run, read_metrics, require_free
from vocablo.training.session import Session
from vocablo.training.train import train
from vocablo.training.watchers import Report, standard
from vocablo.views.page import run_report

FEW_DOCUMENTS = 20  # with fewer, the held-out part is a span of tokens and not of documents
PLACEHOLDER = 1000  # a vocabulary to check settings with, before the true one is known
WHOLE = 1 << 40  # a context that cuts no document


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked besides the recipe: where to, which seeds, and whether only to plan, or to go on."""

    out: Path | None
    seeds: tuple[int, ...] = ()
    dry_run: bool = False
    resume: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One run: its validation loss in nats a token (the best evaluation's), and how it ended."""

    seed: int
    out: str | None
    validation_loss: float | None
    steps: int
    seconds: float
    stopped_by: str

    @property
    def perplexity(self) -> float | None:
        return None if self.validation_loss is None else math.exp(self.validation_loss)


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """What was trained, or what would be (``plan``). Perplexity is per token of the held-out part."""

    family: str
    size: str
    out: str | None
    parameters: int
    vocabulary: int
    training_tokens: int
    validation_tokens: int
    perplexity: float | None
    perplexity_deviation: float | None
    seeds: tuple[SeedResult, ...]
    plan: Plan | None
    next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """Text made ready: a tokenizer, the training store and the held-out one (None when nothing is held out)."""

    tokenizer: Tokenizer
    train: Store
    held_out: Store | None


def run(recipe: Recipe, origin: dict[str, str], order: Order) -> PretrainResult:
    """Carry out a recipe. Raises a VocabloError before work starts for whatever can be known then."""
    module = registry.load(MODELS, families()[recipe.family])
    _check(recipe, origin, order, module)
    with ExitStack() as stack:
        out = order.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _check_folders(out, order)
        material = prepare(recipe, out, order)
        config = module.config_for(recipe.family, recipe.size, material.tokenizer.size, recipe.context, recipe.model)
        if order.dry_run:
            torch.manual_seed(0)
            model = module.build(config)
            plan = None if _counted(module) else measure(Trainer(model, _pretext(recipe, material), recipe.train))
            return _result(recipe, order, material, model, [], plan)
        seeds = order.seeds or (recipe.train.seed,)
        results, model = [], None
        for seed in seeds:
            folder = _folder(out, seed, order)
            one = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
            torch.manual_seed(seed_for(seed, "init"))
            model = module.build(config)
            fit = _count if _counted(module) else _descend
            results.append(fit(one, origin, model, material, folder, order))
        return _result(recipe, order, material, model, results, None)


def _counted(module: Any) -> bool:
    return bool(getattr(module, "COUNTED", False))


def _check(recipe: Recipe, origin: dict[str, str], order: Order, module: Any) -> None:
    data = recipe.data
    if order.resume and order.out is None:
        raise ConfigError("Which run? Give its folder with --out.")
    if not data.text:
        raise ConfigError("Which text? Give --text with files, folders or globs.")
    if order.out is None and not order.dry_run:
        raise ConfigError("Where to? Give --out FOLDER.")
    if len(set(order.seeds)) != len(order.seeds):
        raise ConfigError(f"The seeds {' '.join(map(str, order.seeds))} repeat.")
    module.config_for(recipe.family, recipe.size, PLACEHOLDER, recipe.context, recipe.model)
    lengths = [name for name in LENGTHS if origin.get(f"train.{name}") == "command line"]
    if _counted(module) and lengths:
        raise ConfigError(f"{recipe.family} is counted once and makes no steps: leave {' and '.join(lengths)} out.")
    if data.validation_text:  # looks into the files before the first document is asked for
        read_documents(data.validation_text, documents=data.documents, column=data.column, encoding=data.encoding)


def _folder(out: Path, seed: int, order: Order) -> Path:
    return out if len(order.seeds) < 2 else out / f"seed-{seed}"


def _check_folders(out: Path, order: Order) -> None:
    """Before the text is read: nothing in the way of a new run, or a run to go on with."""
    folders = [_folder(out, seed, order) for seed in order.seeds or (0,)]
    if order.resume and not any(map(holds_run, folders)):
        raise TrainingError(f"{out} holds no run to resume: start one without --resume.")
    if not order.dry_run and not order.resume:
        for folder in [out] if out.is_file() else folders:
            require_free(folder)


def prepare(recipe: Recipe, out: Path, order: Order) -> Material:
    """The tokenizer (loaded, or trained on the text) and the stores, in ``out/run``."""
    data = recipe.data
    kept = out / "run" / "tokenizer"
    if recipe.tokenizer.path is not None:
        tokenizer = Tokenizer.load(Path(recipe.tokenizer.path))
    elif order.resume and kept.exists():
        tokenizer = Tokenizer.load(kept)
    else:
        tokenizer = make_tokenizer(recipe.tokenizer, _texts(data, data.text, order.quiet))
    if not order.dry_run:
        tokenizer.save(kept)
    if tokenizer.end_id is None:
        raise ConfigError("The tokenizer has no end-of-text token, and a language model needs one between documents.")
    stores = out / "run" / "store"
    whole = _store(data, data.text, tokenizer, stores / "train", order)
    if data.validation_text:
        return Material(tokenizer, whole, _store(data, data.validation_text, tokenizer, stores / "validation", order))
    return Material(tokenizer, *hold_out(whole, data.validation))


def make_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """Train a tokenizer as the settings say."""
    return Tokenizer.train(
        settings.kind,
        texts,
        vocab=settings.vocab,
        min_count=settings.min_count,
        lowercase=settings.lowercase,
        split=settings.split,
    )


def hold_out(store: Store, share: float) -> tuple[Store, Store | None]:
    """Split off the last ``share`` of the documents, or of the tokens when there are few documents."""
    if share == 0:
        return store, None
    documents = len(store.documents) - 1
    if documents >= FEW_DOCUMENTS:
        cut = documents - max(1, round(documents * share))
        return store.part(0, cut), store.part(cut, documents)
    tokens = len(store.tokens)
    cut = tokens - max(2, round(tokens * share))
    if cut < 2:
        raise DataError(f"The text has only {tokens} tokens: nothing can be held out. Give more, or data.validation=0.")
    return store.span(0, cut), store.span(cut, tokens)


def _texts(data: DataSettings, sources: tuple[str, ...], quiet: bool) -> Iterator[str]:
    documents = read_documents(sources, documents=data.documents, column=data.column, encoding=data.encoding)
    with Progress("read for the tokenizer", None, "characters", quiet=quiet) as progress:
        for document in documents:
            progress.advance(len(document.text))
            yield document.text


def _store(data: DataSettings, sources: tuple[str, ...], tokenizer: Tokenizer, folder: Path, order: Order) -> Store:
    store = Store.build(
        sources,
        tokenizer,
        folder,
        documents=data.documents,
        column=data.column,
        encoding=data.encoding,
        quiet=order.quiet,
    )
    for note in [] if order.quiet else store.notes:
        tell(note)
    return store


def _pretext(recipe: Recipe, material: Material) -> causal.Pretext:
    settings = recipe.train
    return causal.Pretext(
        material.train,
        causal.Config(order=recipe.data.order),
        seed=settings.seed,
        batch=settings.batch,
        micro=settings.micro,
        context=recipe.context,
    )


def _descend(
    recipe: Recipe, origin: dict[str, str], model: Any, material: Material, out: Path, order: Order
) -> SeedResult:
    """Train by gradient descent."""
    pretext = _pretext(recipe, material)
    values = recipe.model_dump(exclude_none=True)
    resume = order.resume and holds_run(out)  # of several seeds, some may not have begun
    folder = RunFolder.open(out) if resume else RunFolder.create(out, values, origin)
    sample = None
    if recipe.train.sample_every is not None:
        settings = GenerateSettings(max_tokens=60, seed=recipe.train.seed)
        sample = lambda: generate(model, material.tokenizer, "", settings)[0].text  # noqa: E731
    watchers = list(standard(recipe.train, material.held_out, quiet=order.quiet, sample=sample))
    watchers.append(Report(lambda session: _report(recipe, session, material)))
    result = train(model, pretext, recipe.train, folder, watchers, material.tokenizer, resume)
    best = None if result.best is None else result.best.loss
    return SeedResult(recipe.train.seed, str(out), best, result.steps, result.seconds, result.stopped_by)


def _count(
    recipe: Recipe, origin: dict[str, str], model: Any, material: Material, out: Path, order: Order
) -> SeedResult:
    """Fit a counted family: there are no steps, and nothing to resume."""
    begun = time.perf_counter()
    folder = RunFolder.create(out, recipe.model_dump(exclude_none=True), origin)
    try:
        with Progress("count", len(material.train.tokens), "tokens", quiet=order.quiet) as progress:
            model.fit(material.train, progress)
        loss = None if material.held_out is None else counted_loss(model, material.held_out)
        with files.replacing(folder.folder / "model") as temporary:
            temporary.mkdir()
            checkpoint.write(temporary, model, material.tokenizer)
        folder.finish(folder.folder / "model")
        files._remove(folder.folder / "model")
        folder.write_state(status="finished", steps=0)
    finally:
        folder.close()
    return SeedResult(recipe.train.seed, str(out), loss, 0, time.perf_counter() - begun, "counted")


@torch.no_grad()
def held_out_loss(model: Any, store: Store) -> float:
    """Mean nats a token over every document of a store, each read whole from its boundary."""
    pretext = causal.Pretext(store, causal.Config(order="documents"), seed=0, batch=64, micro=64, context=WHOLE)
    total, count = 0.0, 0
    for batch in pretext.validation(store):
        term = pretext.terms(model, batch, None)[0]["causal"]
        total, count = total + float(term.total), count + term.count
    return total / count


def counted_loss(model: Any, store: Store) -> float:
    """The same for a counted family; a cache, when there is one, goes on from document to document."""
    if not model.carries:
        return held_out_loss(model, store)
    stream = np.concatenate([[store.end_id], np.asarray(store.tokens, dtype=np.int64)])
    return -float(carried(model, stream, None)[0].mean())


def _report(recipe: Recipe, session: Session, material: Material) -> None:
    about = {
        "family": recipe.family,
        "size": recipe.size,
        "parameters": parameters(session.model),
        "vocabulary": material.tokenizer.size,
        "training tokens": len(material.train.tokens),
        "held-out tokens": 0 if material.held_out is None else len(material.held_out.tokens),
        "steps": f"{session.trainer.done:,} of {session.total:,}",
        "best validation loss": None if session.best is None else session.best.loss,
        "best validation perplexity": None if session.best is None else math.exp(session.best.loss),
        "seconds of training": round(session.seconds, 1),
        "text": ", ".join(recipe.data.text),
    }
    metrics = list(read_metrics(session.run.metrics))
    text = run_report(f"{recipe.family} {recipe.size}", metrics, about, subtitle=str(session.run.out))
    files.write_text(session.run.folder / "report.html", text)


def parameters(model: Any) -> int:
    """Trained numbers of a model: parameters, or a counted family's own figure."""
    own = getattr(model, "entries", None)
    return int(own) if own is not None else sum(parameter.numel() for parameter in model.parameters())


def _result(
    recipe: Recipe, order: Order, material: Material, model: Any, results: list[SeedResult], plan: Plan | None
) -> PretrainResult:
    out = results[0].out if results else None
    losses = [one.validation_loss for one in results if one.validation_loss is not None]
    perplexities = [math.exp(loss) for loss in losses]
    ask = (
        (
            f'vocablo next "..." --model {out}',
            f'vocablo generate "..." --model {out}',
            f"vocablo perplexity --text FILE --model {out}",
        )
        if out
        else ()
    )
    return PretrainResult(
        family=recipe.family,
        size=recipe.size,
        out=None if order.out is None else str(order.out),
        parameters=parameters(model),
        vocabulary=material.tokenizer.size,
        training_tokens=len(material.train.tokens),
        validation_tokens=0 if material.held_out is None else len(material.held_out.tokens),
        perplexity=statistics.fmean(perplexities) if perplexities else None,
        perplexity_deviation=statistics.stdev(perplexities) if len(perplexities) > 1 else None,
        seeds=tuple(results),
        plan=plan,
        next=ask,
    )
