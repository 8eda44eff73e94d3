"""What transfer buys when labelled data is scarce: the same task from a pre-trained decoder and from random weights.

The task is to tell what a sentence is about: the kitchen, the bank, the sea ... A label says it of the words that stand in
labelled sentences only; text without labels says which words keep company, so that a few examples do for all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from vocablo.base.progress import Progress
from vocablo.base.random import seed_for
from vocablo.data.examples import TextExample
from vocablo.data.grammar import Grammar, render
from vocablo.evaluation.claims import _small
from vocablo.evaluation.claims._small import Outcome, learn, small
from vocablo.tasks import classify
from vocablo.tasks._fitting import fitted
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.svg import Series, curves

ABOUT = "a task with 1, 10 and 100 % of its examples, from a pre-trained decoder and from random weights"
STEPS = 1500

EXAMPLES, ASKED, CONTEXT = 4_000, 1_000, 64
SHARES = (1, 10, 100)  # percent
TUNING = 4  # steps of pre-training for one of fine-tuning


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """Accuracy on unseen sentences by share of the examples, from both starts."""
    tokenizer, store, _ = _small.text(seed)
    examples = topics(seed + 1, EXAMPLES + ASKED)
    labels = tuple(sorted({str(example.label) for example in examples}))
    learnt, asked = examples[:EXAMPLES], examples[EXAMPLES:]
    pretrained = small("gpt", tokenizer.size, seed, {}, context=CONTEXT)
    pretext = _small.causal_pretext(store, seed, CONTEXT)
    learn(pretrained, pretext, steps, seed, "transfer: pre-training", quiet)
    found: dict[str, list[float]] = {"pre-trained": [], "random": []}
    for share in SHARES:
        some = learnt[: max(2, EXAMPLES * share // 100)]
        for start, values in found.items():
            model = pretrained if start == "pre-trained" else None
            values.append(_accuracy(model, tokenizer, labels, some, asked, steps // TUNING, seed, quiet))
    counts = [max(2, EXAMPLES * share // 100) for share in SHARES]
    rows = [(start, *(f"{value:.0%}" for value in values)) for start, values in found.items()]
    places = [math.log10(count) for count in counts]
    lines = [
        Series(start, tuple(zip(places, (100 * value for value in values), strict=True)))
        for start, values in found.items()
    ]
    marks = dict(zip(places, (f"{n:,}" for n in counts), strict=True))
    return (
        "Transferencia y datos limitados: what was learnt from text without labels counts for most where labelled examples "
        "are few.",
        f"Which of {len(labels)} topics is a sentence of? {EXAMPLES:,} labelled sentences, {ASKED:,} unseen ones asked. 2 layers, 64 wide; {steps:,} steps of pre-training to tell the next word, {steps // TUNING:,} steps of all-parameter "
        "fine-tuning from either start.",
        ("start", *(f"{count:,} examples ({share} %)" for share, count in zip(SHARES, counts, strict=True))),
        rows,
        {"Accuracy by labelled examples": curves(lines, x="labelled examples", y="% right", marks=marks)},
    )


def topics(seed: int, count: int) -> list[TextExample]:
    """Sentences with things or people of one topic of the grammar's, labelled with its name."""
    grammar = Grammar()
    owners: dict[str, set[str]] = {}
    for key, phrases in grammar.lexicon.tables.items():
        if key[0] in ("thing", "person"):
            for word in (phrase[-1] for phrase in phrases):
                owners.setdefault(word, set()).add(key[1])
    found: list[TextExample] = []
    for index in itertools.count():
        words = grammar.sentence(seed, index)
        about = {topic for word in words for topic in owners.get(word, ()) if len(owners[word]) == 1}
        if len(about) == 1:
            found.append(TextExample(str(len(found)), render(words), label=about.pop()))
        if len(found) == count:
            return found
    raise AssertionError("count() is endless")


def _accuracy(
    model: Any,
    tokenizer: Tokenizer,
    labels: tuple[str, ...],
    examples: Sequence[TextExample],
    asked: Sequence[TextExample],
    steps: int,
    seed: int,
    quiet: bool,
) -> float:
    """Fine-tune ``model``, or fresh weights of its shape, and ask."""
    torch.manual_seed(seed_for(seed, "init"))
    started = model if model is not None else small("gpt", tokenizer.size, seed, {}, context=CONTEXT)
    own, reads = fitted(started, tokenizer, pooler=False)
    task = classify.Task(Reader(own, reads, ReadSettings(pooling="mean")), classify.Config(), labels)
    heads = task.heads()
    lesson = Lesson(task, task.encode(examples, "the sentences", learn=True), heads, seed=seed, batch=32)
    settings = TrainSettings(steps=steps, batch=32, lr=1e-3, warmup=0.1, schedule="linear", seed=seed)
    title = f"transfer: {'random' if model is None else 'pre-trained'}, {len(examples):,} examples"
    with Progress(title, steps, "steps", quiet=quiet) as progress:
        for step in Trainer(own, lesson, settings):
            progress.advance(1, f"loss {step.loss:.3f}")
    return float(task.measures(asked, task.predict(own, heads, asked))["accuracy"].value)
