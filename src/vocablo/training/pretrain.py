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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vocablo.base import files, registry
from vocablo.base.errors import ConfigError, TrainingError
from vocablo.base.progress import tell
from vocablo.data.readers import read_documents
from vocablo.inference.generate import GenerateSettings, generate
from vocablo.measures.likelihood import Likelihood
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.counting import count
from vocablo.training.heads import OUTPUT, POOLER, heads_of, remark
from vocablo.training.inputs import take
from vocablo.training.loop import Pretext, Trainer
from vocablo.training.material import Material, prepare, remark_on_repeats
from vocablo.training.objective import Objective, choose, reads
from vocablo.training.plan import Plan
from vocablo.training.plan import plan as measure
from vocablo.training.recipe import LENGTHS, MODELS, Recipe, families
from vocablo.training.run import RunFolder, holds_run, read_metrics, require_free
from vocablo.training.session import Session
from vocablo.training.start import Start
from vocablo.training.train import train
from vocablo.training.watchers import Report, perplexity, standard
from vocablo.views.page import run_report

PLACEHOLDER = 1000  # a vocabulary to check settings with, before the true one is known


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked besides the recipe: where to, which seeds, and whether only to plan, or to go on.

    ``material`` is a folder where the text was made ready before, for several runs; None: each run has its own.
    """

    out: Path | None
    seeds: tuple[int, ...] = ()
    dry_run: bool = False
    resume: bool = False
    quiet: bool = False
    material: Path | None = None


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One run: its validation loss in nats (the best evaluation's), its parts, and how it ended.

    ``perplexity`` is of the tokens told, where there are any; ``accuracy`` the share of labels told rightly. Where tokens
    are told from those before them, their probability is that of the text: ``word_perplexity`` and ``bits_per_byte`` are
    the same number in units that don't depend on the tokenizer (``measures.likelihood``; None where they would mislead).
    """

    seed: int
    out: str | None
    validation_loss: float | None
    steps: int
    seconds: float
    stopped_by: str
    perplexity: float | None = None
    terms: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    word_perplexity: float | None = None
    bits_per_byte: float | None = None


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """What was trained, or what would be (``plan``). Perplexity is per token told of the held-out part.

    ``perplexity_of`` says which tokens these are: all (``causal``), or the hidden ones (``masked``). All that is measured
    is the mean over the seeds.
    """

    family: str
    size: str
    pretext: str | None
    out: str | None
    parameters: int
    vocabulary: int
    training_tokens: int
    validation_tokens: int
    validation_unknown: int  # of these, unknown words
    perplexity: float | None
    perplexity_of: str | None
    perplexity_deviation: float | None
    seeds: tuple[SeedResult, ...]
    plan: Plan | None
    next: tuple[str, ...]
    word_perplexity: float | None = None
    bits_per_byte: float | None = None


def run(recipe: Recipe, origin: dict[str, str], order: Order) -> PretrainResult:
    """Carry out a recipe. Raises a VocabloError before work starts for whatever can be known then."""
    _check(recipe, origin, order)
    with ExitStack() as stack:
        out = order.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _check_folders(out, order)
        start = Start.of(recipe, _begun(out, order))
        recipe = _settled(recipe, origin, start)
        counted = _counted(recipe)
        objective = None if counted else choose(recipe, reads(start.module, start.config(recipe, PLACEHOLDER)))
        tokenizer = start.tokenizer or _kept(recipe, out, order)
        own = order.material is None and not order.dry_run
        material = prepare(recipe, order.material or out / "run", tokenizer, keep=own, quiet=order.quiet)
        config = start.config(recipe, material.tokenizer.size, material.tokenizer)
        if objective is not None and not order.quiet:
            remark_on_repeats(material)
        if order.dry_run:
            model = start.make(config, 0)
            plan = None
            if objective is not None:
                pretext = _pretext(objective, recipe, material, model, start)
                _remark_on_heads(recipe, start, model, pretext, order)
                plan = measure(Trainer(model, pretext, recipe.train))
            return _result(recipe, order, material, model, objective, [], plan)
        inputs = take(start.module, recipe.model)[1]
        results, model = [], None
        for seed in order.seeds or (recipe.train.seed,):
            folder = _folder(out, seed, order)
            one = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
            model = start.make(config, seed)
            if inputs is not None:
                inputs.into(model, material.tokenizer, quiet=order.quiet)
            if objective is None:
                results.append(_count(one, origin, model, material, folder, order))
                continue
            pretext = _pretext(objective, one, material, model, start)
            if not results:
                _remark_on_heads(recipe, start, model, pretext, order)
            results.append(_descend(one, origin, model, pretext, material, folder, order))
        return _result(recipe, order, material, model, objective, results, None)


def _counted(recipe: Recipe) -> bool:
    return bool(registry.constant(MODELS, families()[recipe.family], "COUNTED"))


def _check(recipe: Recipe, origin: dict[str, str], order: Order) -> None:
    data = recipe.data
    if order.resume and order.out is None:
        raise ConfigError("Which run? Give its folder with --out.")
    if not data.text:
        raise ConfigError("Which text? Give --text with files, folders or globs.")
    if order.out is None and not order.dry_run:
        raise ConfigError("Where to? Give --out FOLDER.")
    if len(set(order.seeds)) != len(order.seeds):
        raise ConfigError(f"The seeds {' '.join(map(str, order.seeds))} repeat.")
    said = [key for key, where in origin.items() if where == "command line"]
    if recipe.init_from is None:
        module = registry.load(MODELS, families()[recipe.family])
        module.config_for(recipe.family, recipe.size, PLACEHOLDER, recipe.context, take(module, recipe.model)[0])
    elif own := [
        key for key in said if key == "size" or (key.startswith(("model.", "tokenizer.")) and key != "tokenizer.path")
    ]:
        raise ConfigError(f"{' and '.join(own)} can't be chosen: they are those of the model in {recipe.init_from}.")
    lengths = [name for name in LENGTHS if f"train.{name}" in said]
    if _counted(recipe) and lengths:
        raise ConfigError(f"{recipe.family} is counted once and makes no steps: leave {' and '.join(lengths)} out.")
    if _counted(recipe) and recipe.pretext:
        raise ConfigError(f"{recipe.family} is counted and has no pretext: leave {', '.join(recipe.pretext)} out.")
    if data.validation_text:  # looks into the files before the first document is asked for
        read_documents(data.validation_text, documents=data.documents, column=data.column, encoding=data.encoding)


def _settled(recipe: Recipe, origin: dict[str, str], start: Start) -> Recipe:
    """The recipe as it is when a model is trained further: its size is the model's, and so is a context not asked for."""
    if start.model is None:
        return recipe
    context, longest = recipe.context, start.model.context
    if longest is not None and origin.get("context") != "command line":
        context = min(context, longest)
    return recipe.model_copy(update={"size": None, "context": context, "model": {}})


def _folder(out: Path, seed: int, order: Order) -> Path:
    return out if len(order.seeds) < 2 else out / f"seed-{seed}"


def _begun(out: Path, order: Order) -> Path | None:
    """The folder of a run that is gone on with, if one was begun."""
    folders = [_folder(out, seed, order) for seed in order.seeds or (0,)] if order.resume else []
    return next((folder for folder in folders if holds_run(folder)), None)


def _kept(recipe: Recipe, out: Path, order: Order) -> Tokenizer | None:
    """The tokenizer that was trained when a run which is gone on with was begun."""
    kept = out / "run" / "tokenizer"
    return Tokenizer.load(kept) if order.resume and recipe.tokenizer.path is None and kept.exists() else None


def _check_folders(out: Path, order: Order) -> None:
    """Before the text is read: nothing in the way of a new run, or a run to go on with."""
    folders = [_folder(out, seed, order) for seed in order.seeds or (0,)]
    if order.resume and not any(map(holds_run, folders)):
        raise TrainingError(f"{out} holds no run to resume: start one without --resume.")
    if not order.dry_run and not order.resume:
        for folder in [out] if out.is_file() else folders:
            require_free(folder)


def _pretext(objective: Objective, recipe: Recipe, material: Material, model: Any, start: Start) -> Pretext:
    """The pretext over the training text, found to fit the model and the held-out text."""
    pretext = objective.over(material.train, material.tokenizer, recipe)
    pretext.check(model)
    pretext.attach(model, start.heads)
    if material.held_out is not None:
        next(iter(pretext.validation(material.held_out, batches=1)), None)
    return pretext


def _remark_on_heads(recipe: Recipe, start: Start, model: Any, pretext: Pretext, order: Order) -> None:
    """Say which heads of the model that is trained further are left out, fresh, or kept without being trained."""
    if start.model is None or order.quiet:
        return
    modules = pretext.modules()
    untrained = [*([POOLER] if modules is None else []), *([OUTPUT] if pretext.perplexity_of is None else [])]
    before, after = heads_of(start.model, start.heads), heads_of(model, modules or ())
    if (note := remark(str(recipe.init_from), before, after, untrained)) is not None:
        tell(note)


def _descend(
    recipe: Recipe, origin: dict[str, str], model: Any, pretext: Pretext, material: Material, out: Path, order: Order
) -> SeedResult:
    """Train by gradient descent."""
    sample = None
    if recipe.train.sample_every is not None:
        if model.reads != "left":
            raise ConfigError(f"{recipe.family} doesn't write text: leave train.sample_every out.")
        settings = GenerateSettings(max_tokens=60, seed=recipe.train.seed)
        sample = lambda: generate(model, material.tokenizer, "", settings)[0].text  # noqa: E731
    values = recipe.model_dump(exclude_none=True)
    resume = order.resume and holds_run(out)  # of several seeds, some may not have begun
    folder = RunFolder.open(out) if resume else RunFolder.create(out, values, origin)
    watchers = list(standard(recipe.train, material.held_out, quiet=order.quiet, sample=sample))
    watchers.append(Report(lambda session: _report(recipe, session, material)))
    result = train(model, pretext, recipe.train, folder, watchers, material.tokenizer, resume)
    best, words = result.best, pretext.perplexity_of
    per_word, per_byte = _units(None if best is None else best.terms.get("causal"), material)
    return SeedResult(
        seed=recipe.train.seed,
        out=str(out),
        validation_loss=None if best is None else best.loss,
        steps=result.steps,
        seconds=result.seconds,
        stopped_by=result.stopped_by,
        perplexity=None if best is None or words is None else perplexity(best.terms[words]),
        terms={} if best is None else best.terms,
        accuracy={} if best is None else best.accuracy,
        word_perplexity=per_word,
        bits_per_byte=per_byte,
    )


def _count(
    recipe: Recipe, origin: dict[str, str], model: Any, material: Material, out: Path, order: Order
) -> SeedResult:
    """Fit a counted family: there are no steps, and nothing to resume."""
    begun = time.perf_counter()
    loss = count(recipe, origin, model, material, out, quiet=order.quiet)
    told = None if loss is None else math.exp(loss)
    seconds = time.perf_counter() - begun
    word, byte = _units(loss, material)
    return SeedResult(
        recipe.train.seed, str(out), loss, 0, seconds, "counted", told, word_perplexity=word, bits_per_byte=byte
    )


def _units(nats: float | None, material: Material) -> tuple[float | None, float | None]:
    """``nats`` per token of the held-out text, told by the chain rule, as perplexity per word and bits per byte."""
    if nats is None or material.held_out is None:
        return None, None
    counts = material.held_out.counts
    words = counts.words + counts.documents  # each boundary is one of both, as everywhere
    exact = material.tokenizer.exact
    found = Likelihood(-nats * counts.tokens, counts.tokens, words, counts.bytes, counts.unknown, exact)
    return found.word_perplexity, found.bits_per_byte


def _report(recipe: Recipe, session: Session, material: Material) -> None:
    best, words = session.best, session.pretext.perplexity_of
    about = {
        "family": recipe.family,
        "size": recipe.size or f"that of {recipe.init_from}",
        "objective": " + ".join(session.pretext.names),
        "parameters": parameters(session.model),
        "vocabulary": material.tokenizer.size,
        "training tokens": len(material.train.tokens),
        "held-out tokens": 0 if material.held_out is None else len(material.held_out.tokens),
        "steps": f"{session.trainer.done:,} of {session.total:,}",
        "best validation loss": None if best is None else best.loss,
        "best validation perplexity": None if best is None or words is None else perplexity(best.terms[words]),
        **{f"accuracy, {name}": share for name, share in (best.accuracy if best else {}).items()},
        "seconds of training": round(session.seconds, 1),
        "text": ", ".join(recipe.data.text),
    }
    metrics = list(read_metrics(session.run.metrics))
    title = f"{recipe.family} {recipe.size}" if recipe.size else f"{recipe.family}, continued"
    text = run_report(title, metrics, about, subtitle=str(session.run.out))
    files.write_text(session.run.folder / "report.html", text)


def parameters(model: Any) -> int:
    """Trained numbers of a model: parameters, or a counted family's own figure."""
    own = getattr(model, "entries", None)
    return int(own) if own is not None else sum(parameter.numel() for parameter in model.parameters())


ASK = {
    "words": ("vocablo neighbors WORD", "vocablo analogy A B C", "vocablo evaluate wordsim --data FOLDER"),
    "left": ('vocablo next "..."', 'vocablo generate "..."', "vocablo perplexity --text FILE"),
    "two_way": ('vocablo score "..."', 'vocablo embed "..."', 'vocablo neighbors "..." WORD --text FILE'),
    "source_target": ("vocablo finetune summarize --train FILE", "vocablo finetune translate --train SOURCE,TARGET"),
    "both": ('vocablo fill "... [MASK] ..."', 'vocablo score "..."', 'vocablo embed "..."'),
}


def _result(
    recipe: Recipe,
    order: Order,
    material: Material,
    model: Any,
    objective: Objective | None,
    results: list[SeedResult],
    plan: Plan | None,
) -> PretrainResult:
    perplexities = [one.perplexity for one in results if one.perplexity is not None]
    per_word = [one.word_perplexity for one in results if one.word_perplexity is not None]
    per_byte = [one.bits_per_byte for one in results if one.bits_per_byte is not None]
    words = "causal"
    if results and results[0].terms:
        words = next(iter(results[0].terms))
    return PretrainResult(
        family=recipe.family,
        size=recipe.size or f"continued from {recipe.init_from}",
        pretext=None if objective is None else objective.settings.name,  # type: ignore[attr-defined]
        out=None if order.out is None else str(order.out),
        parameters=parameters(model),
        vocabulary=material.tokenizer.size,
        training_tokens=len(material.train.tokens),
        validation_tokens=0 if material.held_out is None else len(material.held_out.tokens),
        validation_unknown=0 if material.held_out is None else material.held_out.counts.unknown,
        perplexity=statistics.fmean(perplexities) if perplexities else None,
        perplexity_of=words if perplexities else None,
        perplexity_deviation=statistics.stdev(perplexities) if len(perplexities) > 1 else None,
        seeds=tuple(results),
        plan=plan,
        next=tuple(f"{verb} --model {results[0].out}" for verb in ASK[model.reads]) if results else (),
        word_perplexity=statistics.fmean(per_word) if per_word else None,
        bits_per_byte=statistics.fmean(per_byte) if per_byte else None,
    )
