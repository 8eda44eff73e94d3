"""Fine-tuning, whole: recipe -> examples -> model and head -> runs -> folder.

OUT/                         the finished model; of several runs, the best one's
OUT/run/                     the run itself (``training.run``), of a single run
OUT/seed-0/, OUT/batch-16-lr-5e-05-epochs-2/seed-0/ ...      each of several runs, with its own run/
"""

from __future__ import annotations

import copy
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vocablo import checkpoint
from vocablo.base import files, registry
from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import tell
from vocablo.base.random import generator, seed_for
from vocablo.base.results import as_json
from vocablo.inference.finetuned import task_in
from vocablo.measures.measurement import Score
from vocablo.tasks._fitting import check_family, fitted
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._readers import reader_for
from vocablo.tasks._rows import Encoded
from vocablo.tasks._task import Task
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.finetune_recipe import TASKS, Recipe, grid, settings_of
from vocablo.training.finetune_start import Start
from vocablo.training.heads import heads_of, remark
from vocablo.training.loop import Trainer
from vocablo.training.measuring import Measure, by_loss, ordered, ranked
from vocablo.training.plan import Plan
from vocablo.training.plan import plan as measure_plan
from vocablo.training.pretrain import parameters
from vocablo.training.run import RunFolder, holds_run, read_metrics, require_free
from vocablo.training.train import train
from vocablo.training.watchers import EarlyStop, Log, Report, Watcher
from vocablo.views.page import run_report

SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked besides the recipe: where to, how many seeds, a grid, and whether only to plan, or to go on."""

    out: Path | None
    seeds: tuple[int, ...] = (0,)
    grid: str | None = None
    fresh_head: bool = False
    dry_run: bool = False
    resume: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its settings that a grid changes, the held-out measures of its best step and of its last, how it ended."""

    seed: int
    batch: int
    lr: float
    epochs: float | None
    out: str
    measures: dict[str, float]
    last: dict[str, float]
    best_step: int
    steps: int
    seconds: float
    stopped_by: str


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What was learnt, or what it would cost (``plan``). ``value`` is the mean over seeds of ``measure`` on held-out examples,

    ``deviation`` their standard deviation; ``scores`` are all measures of the best run, with intervals.
    """

    task: str
    model: str
    out: str | None
    labels: tuple[str, ...]
    parameters: int
    trained: int
    examples: int
    dev_examples: int
    measure: str | None
    value: float | None
    deviation: float | None
    scores: tuple[Score, ...]
    runs: tuple[Run, ...]
    plan: Plan | None
    next: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """What all runs share: the task's file and settings, its examples, and the model they start from, with the labels."""

    module: Any
    settings: Any
    train: list[Any]
    dev: list[Any]
    start: Start
    where: str
    dev_where: str


def run(recipe: Recipe, origin: dict[str, str], order: Order) -> FinetuneResult:
    """Carry out a recipe. Raises a VocabloError before work starts for whatever can be known then."""
    variants = _variants(recipe, order)
    _check_folders(order, [folder for folder, _ in variants])
    material = prepare(recipe, order)
    if order.dry_run:
        model, lesson, _, _ = _lesson(variants[0][1], material)
        _remark_on_heads(recipe, material, model, lesson, order)
        plan = measure_plan(Trainer(model, lesson, variants[0][1].train))
        return _result(recipe, order, material, model, [], plan)
    model, runs = None, []
    for folder, one in variants:
        done = _finished(folder) if order.resume else None
        if done is None:
            model, found = _one(one, origin, material, folder, order, first=not runs)
        else:
            found = done
        runs.append(found)
    best = _best(runs, recipe.measure)
    if len(runs) > 1:
        _publish(Path(best.out), order)
    return _result(recipe, order, material, model, runs, None)


def prepare(recipe: Recipe, order: Order) -> Material:
    """Read and check all examples, then load or plan the model."""
    name = recipe.task["name"]
    module = registry.load(TASKS, name)
    settings = settings_of(recipe, module)
    notes = (lambda note: None) if order.quiet else tell
    data = recipe.data
    examples = module.read(data.train, recipe.columns, settings, notes=notes)
    dev_where = data.dev or data.train
    if data.dev is not None:
        dev = module.read(data.dev, recipe.columns, settings, notes=notes)
    else:
        examples, dev = _held_out(examples, data.holdout, data.train)
        if dev:
            notes(f"no --dev: {len(dev):,} of the {len(dev) + len(examples):,} examples, drawn by lot, are held out")
    # Of one file all labels are known: lots may have put the only example of one among those held out.
    labels = module.labels(examples if data.dev is not None else [*examples, *dev], settings, data.train)
    texts = module.sides(examples) if getattr(settings, "separate", False) else module.texts(examples)
    start = Start.of(recipe, module, labels, order.fresh_head, texts)
    return Material(module, settings, examples, dev, start, data.train, dev_where)


def _held_out(examples: list[Any], share: float, where: str) -> tuple[list[Any], list[Any]]:
    count = round(share * len(examples)) if share else 0
    if share and not 0 < count < len(examples):
        raise DataError(
            f"{where} has {len(examples)} examples: too few to hold some out; give --dev, or data.holdout=0."
        )
    chosen = set(generator(0, "holdout").permutation(len(examples))[:count].tolist())
    return [one for i, one in enumerate(examples) if i not in chosen], [examples[i] for i in sorted(chosen)]


def _variants(recipe: Recipe, order: Order) -> list[tuple[Path, Recipe]]:
    """The folder and the recipe of every run."""
    if order.resume and order.out is None:
        raise ConfigError("Which run? Give its folder with --out.")
    if order.out is None and not order.dry_run:
        raise ConfigError("Where to? Give --out FOLDER.")
    found = []
    for changes in grid(order.grid):
        values = recipe.train.model_dump(exclude_none=True)
        if changes:
            values = {key: value for key, value in values.items() if key not in ("epochs", "steps", "minutes")}
        for seed in order.seeds:
            settings = type(recipe.train)(**(values | changes | {"seed": seed}))
            folder = order.out or Path()
            if changes:
                folder = folder / "-".join(f"{key}-{value:g}" for key, value in changes.items())
            if len(order.seeds) > 1:
                folder = folder / f"seed-{seed}"
            found.append((folder, recipe.model_copy(update={"train": settings})))
    return found


def _check_folders(order: Order, folders: Sequence[Path]) -> None:
    if order.dry_run or order.resume or order.out is None:
        return
    require_free(order.out)
    for folder in folders:
        require_free(folder)


def _lesson(recipe: Recipe, material: Material) -> tuple[Any, Lesson, Tokenizer, Encoded | None]:
    """The model of one seed, ready for the task, the lesson over its training examples, and the held-out ones encoded."""
    seed, start = recipe.train.seed, material.start
    torch.manual_seed(seed_for(seed, "init"))
    model, tokenizer = start.make()
    check_family(
        model, recipe.task["name"], documents=material.module.TEXTS, pairs=getattr(material.module, "PAIRS", False)
    )
    pooler = material.module.POOLED and recipe.read.pooler(model.reads)
    had_pooler = bool(getattr(model.config, "pooler", False))
    model, tokenizer = fitted(model, tokenizer, pooler=pooler)
    task = material.module.Task(reader_for(model, tokenizer, recipe.read), material.settings, material.start.labels)
    examples = material.train
    if recipe.data.fraction < 1:
        order = generator(seed, "fraction").permutation(len(examples))
        examples = [examples[i] for i in sorted(order[: max(1, round(recipe.data.fraction * len(order)))])]
    heads = _heads(task, start, recipe.model)
    task.prepare(examples, heads, fresh=not start.heads)
    for name, parameter in model.named_parameters():
        kept = task.reader.frozen and (had_pooler or not name.startswith("pooler."))
        parameter.requires_grad_(not kept and name not in getattr(model, "fixed", ()))
    heads.requires_grad_(True)
    encoded = task.encode(examples, material.where, learn=True)
    if hasattr(model, "seen"):
        model.seen(torch.from_numpy(encoded.ids).long())
    held_out = task.encode(material.dev, material.dev_where, learn=True) if material.dev else None
    batch, micro, tokens = recipe.train.batch, recipe.train.micro, recipe.train.batch_tokens
    lesson = Lesson(task, encoded, heads, seed=seed, batch=batch, micro=micro, batch_tokens=tokens)
    if material.dev and not by_loss(
        task, recipe.measure
    ):  # what can go wrong in an evaluation does before the first step
        few = material.dev[:4]
        ordered(task.measures(few, task.predict(model, heads, few)), recipe.measure)
    return model, lesson, tokenizer, held_out


def _heads(task: Task, start: Start, where: str) -> nn.ModuleDict:
    """Fresh heads, or copies of those that the model came with. Raises ConfigError for ones of other parts or sizes."""
    heads = task.heads()
    if not start.heads:
        return heads
    shapes = {name: {key: value.shape for key, value in head.state_dict().items()} for name, head in heads.items()}
    given = {name: {key: value.shape for key, value in head.state_dict().items()} for name, head in start.heads.items()}
    if shapes != given:
        raise ConfigError(
            f"The head in {where} isn't the one that these settings ask for (features, crf): --fresh-head starts a new one."
        )
    return nn.ModuleDict({name: copy.deepcopy(head) for name, head in start.heads.items()})


def _remark_on_heads(recipe: Recipe, material: Material, model: Any, lesson: Lesson, order: Order) -> None:
    """Say which heads of the model that is fine-tuned are left out, and which are fresh."""
    start = material.start
    if start.model is None or order.quiet:
        return
    after = heads_of(model, lesson.heads)
    fresh = set() if start.heads else {name for name in lesson.heads if name in start.found}  # --fresh-head
    before = heads_of(start.model, start.found) - fresh
    if (note := remark(recipe.model, before, after)) is not None:
        tell(note)


def _one(
    recipe: Recipe, origin: dict[str, str], material: Material, folder: Path, order: Order, *, first: bool
) -> tuple[Any, Run]:
    """One run, from its start or from where it was left."""
    model, lesson, tokenizer, held_out = _lesson(recipe, material)
    if first:
        _remark_on_heads(recipe, material, model, lesson, order)
    resume = order.resume and holds_run(folder)
    values = recipe.model_dump(exclude_none=True)
    place = RunFolder.open(folder) if resume else RunFolder.create(folder, values, origin)
    settings = recipe.train.model_copy(update={
        key: getattr(recipe.train, key) or lesson.steps_per_epoch for key in ("evaluate_every", "save_every")
    })  # fmt: skip
    watchers: list[Watcher] = []
    if held_out is not None:
        measure = Measure(material.dev, held_out, settings.evaluate_every, recipe.measure)
        watchers += [measure, *([EarlyStop(measure, settings.patience)] if settings.patience else [])]
    watchers += [Log(order.quiet), Report(lambda session: _report(recipe, material, session))]
    result = train(model, lesson, settings, place, watchers, tokenizer, resume)
    lines = [line for line in read_metrics(place.metrics) if "validation_examples" in line]
    best = result.best
    found = Run(
        seed=settings.seed,
        batch=settings.batch,
        lr=settings.lr,
        epochs=settings.epochs,
        out=str(folder),
        measures={} if best is None else best.measures,
        last={} if not lines or best is None else _last(lines[-1], best.measures),
        best_step=result.steps if best is None else best.step,
        steps=result.steps,
        seconds=result.seconds,
        stopped_by=result.stopped_by,
    )
    files.write_text(folder / "run" / SUMMARY, json.dumps(as_json(asdict(found)), ensure_ascii=False, indent=1) + "\n")
    shutil.rmtree(folder / "run" / "steps", ignore_errors=True)  # several times the model's size, and of no more use
    return model, found


def _last(line: Mapping[str, Any], measures: Mapping[str, float]) -> dict[str, float]:
    return {name: line[f"validation_{name.replace(' ', '_')}"] for name in measures}


def _finished(folder: Path) -> Run | None:
    path = folder / "run" / SUMMARY
    return Run(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _best(runs: Sequence[Run], by: str | None) -> Run:
    """The run with the greatest measure; the first one when nothing was held out."""

    def value(run: Run) -> float:
        found = next(iter(run.measures.values()), None)
        name = next(iter(run.measures), "")
        return float("-inf") if found is None or found != found else ranked(name, found)

    return max(runs, key=value)


def _publish(best: Path, order: Order) -> None:
    """The best run's model files, copied to where the others are looked for."""
    assert order.out is not None
    for path in sorted(best.iterdir(), key=lambda path: path.name == "config.json"):
        if path.is_file():
            with files.replacing(order.out / path.name) as temporary:
                shutil.copyfile(path, temporary)


def _report(recipe: Recipe, material: Material, session: Any) -> None:
    best = session.best
    about: dict[str, object] = {
        "task": recipe.task["name"],
        "model": recipe.model,
        "parameters": parameters(session.model),
        "training examples": len(material.train),
        "held-out examples": len(material.dev),
        "steps": f"{session.trainer.done:,} of {session.total:,}",
        **({} if best is None else {f"best {name}": value for name, value in best.measures.items()}),
        "seconds of training": round(session.seconds, 1),
    }
    text = run_report(
        f"{recipe.task['name']}", list(read_metrics(session.run.metrics)), about, subtitle=str(session.run.out)
    )
    files.write_text(session.run.folder / "report.html", text)


def _scores(out: str, material: Material) -> tuple[Score, ...]:
    """All measures, with intervals, of the finished model as it is read from its folder."""
    loaded = checkpoint.load(out)
    found = task_in(loaded, out)
    assert found is not None, "a folder that was just written for a task"
    predictions = found[1].predict(loaded.model, loaded.heads, material.dev)
    return tuple(one.score() for one in found[1].measures(material.dev, predictions).values())


def _result(
    recipe: Recipe, order: Order, material: Material, model: Any, runs: list[Run], plan: Plan | None
) -> FinetuneResult:
    names = list(runs[0].measures) if runs else []
    chosen = _best(runs, recipe.measure) if runs else None
    same = [
        one for one in runs if chosen and (one.batch, one.lr, one.epochs) == (chosen.batch, chosen.lr, chosen.epochs)
    ]
    values = [one.measures[names[0]] for one in same] if names else []
    out = None if order.out is None else str(order.out)
    return FinetuneResult(
        task=recipe.task["name"],
        model=recipe.model,
        out=out,
        labels=material.start.labels,
        parameters=0 if model is None else parameters(model),
        trained=0 if model is None else sum(one.numel() for one in model.parameters() if one.requires_grad),
        examples=len(material.train),
        dev_examples=len(material.dev),
        measure=names[0] if names else None,
        value=statistics.fmean(values) if values else None,
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        scores=_scores(out, material) if runs and material.dev and out else (),
        runs=tuple(runs),
        plan=plan,
        next=tuple(f"vocablo {line} --model {out}" for line in material.module.ASK) if runs else (),
    )
