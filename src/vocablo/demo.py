"""``vocablo demo``: an n-gram, an LSTM and a Transformer on the embedded grammar, against the best that is possible.

The grammar knows its own probabilities, so every table has the true column beside the learned one, and every perplexity
the optimum beside it.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocablo import api
from vocablo.base import files
from vocablo.base.errors import ConfigError
from vocablo.base.progress import duration
from vocablo.data.grammar import Grammar, split
from vocablo.data.store import Store
from vocablo.evaluation.agreement import AgreementRow, agreement
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.counting import held_out_loss
from vocablo.training.pretrain import parameters
from vocablo.training.run import read_metrics
from vocablo.views import page, terminal
from vocablo.views.svg import Bar, Series, bars, curves, probability

MODELS = {"ngram": "5-gram", "lstm": "LSTM", "transformer": "Transformer"}
FAMILY = {"ngram": "ngram", "lstm": "lstm", "transformer": "gpt"}
PROMPTS = (
    "Voy a guardar el queso en el",
    "Cuando llegue a casa me tengo que acordar de darle de comer al",
    "Saqué dinero del",
)
MARKER = "demo.json"
HELD_OUT, ITEMS, SHOWN = 2_000, 1_500, 6
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One model of the demo, measured on the held-out sentences."""

    name: str
    perplexity: float
    parameters: int
    seconds: float
    agreement: tuple[AgreementRow, ...]


def run(out: Path, *, sentences: int, seconds: float, size: str, seed: int, say: Say) -> None:
    """Make the corpus, train the three models, show what each learned, and write ``out/report.html``.

    ``seconds`` is the training time of each neural model, and ``size`` the Transformer's.
    """
    begun = time.perf_counter()
    _clear(out)
    grammar = Grammar()
    tokenizer, optimum, held_out = _corpus(grammar, out, sentences, seed, say)
    loaded, measured = {}, []
    for name, title in MODELS.items():
        say(f"\n{title}")
        overrides = () if name == "ngram" else (f"train.seed={seed}",)
        result = api.pretrain(
            FAMILY[name], recipe=f"demo-{name}", size=size if name == "transformer" else None, out=out / name, text=out / "train.txt", tokenizer=out / "tokenizer",
            minutes=None if name == "ngram" else seconds / 60, overrides=overrides,
        )  # fmt: skip
        loaded[name] = api.load(out / name)
        measured.append(
            _measure(title, loaded[name].model, tokenizer, held_out, grammar, seed, result.seeds[0].seconds)
        )
    say("\nOn the unseen sentences:\n" + terminal.table(*_perplexities(measured, optimum)))
    say(
        "\nAgreement: how often the form that agrees is preferred, by distance:\n"
        + terminal.table(*_agreements(measured))
    )
    tables = {prompt: _table(grammar, loaded, prompt) for prompt in PROMPTS}
    for prompt, rows in tables.items():
        say(f"\n{prompt} ...\n" + terminal.table(("next word", "true", *MODELS.values()), rows))
    texts = {MODELS[name]: _generations(model, seed) for name, model in loaded.items()}
    for title, lines in texts.items():
        say(f"\n{title} writes, until <end>:\n" + "\n".join(f"  {line}" for line in lines))
    _report(out, measured, optimum, tables, texts)
    say(
        f"\nDone in {duration(time.perf_counter() - begun)}. Look at {out / 'report.html'}, then try:\n"
        f'  vocablo next "Me siento en el" --model {out / "transformer"}\n'
        f'  vocablo generate "Juan" --model {out / "transformer"}\n'
        f'  vocablo score "El hotel está buenísimo" --model {out / "lstm"}\n'
        "  vocablo pretrain gpt --text YOUR_FILES --out my-model --minutes 10"
    )


def _clear(out: Path) -> None:
    """An earlier demo is replaced; anything else in the folder is left alone and refused."""
    if out.exists() and not (out / MARKER).exists() and any(out.iterdir()):
        raise ConfigError(f"{out} holds something else than an earlier demo: choose another folder with --out.")
    if out.exists():
        shutil.rmtree(out)
    files.write_text(out / MARKER, json.dumps({"what": "made by `vocablo demo`; replaced by the next one"}) + "\n")


def _corpus(grammar: Grammar, out: Path, sentences: int, seed: int, say: Say) -> tuple[Tokenizer, float, Store]:
    lines = list(grammar.text(seed, sentences))
    unseen = list(grammar.text(seed + 1, HELD_OUT))
    files.write_text(out / "train.txt", "".join(line + "\n" for line in lines))
    files.write_text(out / "held-out.txt", "".join(line + "\n" for line in unseen))
    tokenizer = Tokenizer.train("word", [*lines, " ".join(grammar.words)])
    tokenizer.save(out / "tokenizer")
    held_out = Store.build([out / "held-out.txt"], tokenizer, out / "store", documents="line", quiet=True)
    optimum = grammar.perplexity(unseen)
    words = sum(len(split(line)) for line in lines)
    say(
        f"Corpus: {sentences:,} sentences, {words:,} words of {grammar.size:,} kinds, from a grammar of Spanish. For example:\n"
        + "\n".join(f"  {line}" for line in lines[:4])
        + f"\nThe best possible perplexity on {HELD_OUT:,} unseen sentences is {optimum:.2f}."
    )
    return tokenizer, optimum, held_out


def _measure(
    title: str, model: Any, tokenizer: Tokenizer, held_out: Store, grammar: Grammar, seed: int, seconds: float
) -> Measured:
    assert tokenizer.end_id is not None
    rows = agreement(model, tokenizer.end_id, tokenizer.id, grammar.agreement(seed + 2, ITEMS))
    return Measured(title, math.exp(held_out_loss(model, held_out)), parameters(model), seconds, tuple(rows))


Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


def _perplexities(measured: list[Measured], optimum: float) -> Table:
    rows: list[tuple[object, ...]] = [("the grammar itself", f"{optimum:.2f}", "0.0%", None, "")]
    rows += [
        (
            one.name,
            f"{one.perplexity:.2f}",
            f"{one.perplexity / optimum - 1:.1%}",
            one.parameters,
            duration(one.seconds),
        )
        for one in measured
    ]
    return ("", "perplexity", "above the optimum", "parameters", "trained in"), rows


def _agreements(measured: list[Measured]) -> Table:
    labels = [row.label for row in measured[0].agreement]
    rows: list[tuple[object, ...]] = [(one.name, *(f"{row.accuracy:.0%}" for row in one.agreement)) for one in measured]
    return ("words between them", *labels), rows


def _table(grammar: Grammar, loaded: dict[str, api.LanguageModel], prompt: str) -> list[tuple[str, ...]]:
    true = grammar.next_word(split(prompt))
    words = sorted(true, key=lambda word: -true[word])[:SHOWN]
    columns = []
    for model in loaded.values():
        found = {word.word: word.prob for word in model.next(prompt, among=words).words}
        columns.append([found[word] for word in words])
    return [
        (word, probability(true[word]), *(probability(column[i]) for column in columns)) for i, word in enumerate(words)
    ]


def _generations(model: api.LanguageModel, seed: int) -> list[str]:
    found = model.generate("", samples=3, seed=seed, max_tokens=60)
    return [one.text.strip() + (" <end>" if one.finished_by == "end" else " ...") for one in found]


def _report(
    out: Path,
    measured: list[Measured],
    optimum: float,
    tables: dict[str, list[tuple[str, ...]]],
    texts: dict[str, list[str]],
) -> None:
    series, longest = [], 1.0
    for name, title in MODELS.items():
        path = out / name / "run" / "metrics.jsonl"
        points, clock = [], 0.0
        for line in read_metrics(path) if path.exists() else ():
            clock += line.get("seconds", 0.0)
            if "validation_loss" in line:
                points.append((clock, math.exp(line["validation_loss"])))
        longest = max([longest, *(x for x, _ in points)])
        series.append(Series(title, tuple(points)))
    series += [
        Series("5-gram", ((0.0, measured[0].perplexity), (longest, measured[0].perplexity)), dashed=True),
        Series("optimum", ((0.0, optimum), (longest, optimum)), dashed=True),
    ]
    near = 3 * optimum
    series = [
        Series(one.name, tuple(p for p in one.points if p[1] <= near), one.dashed) for one in series if one.points
    ]
    parts = [
        page.section(
            "Perplexity while they learn",
            curves(series, x="seconds of training", y="perplexity"),
            page.paragraph("Held-out perplexity; what lies above three times the optimum is left out of the picture."),
        ),
        page.section("On the unseen sentences", page.table(*_perplexities(measured, optimum))),
        page.section(
            "Agreement at a distance",
            page.paragraph("How often each model prefers the form that agrees with a word further back, by distance."),
            page.table(*_agreements(measured)),
        ),
    ]
    for prompt, rows in tables.items():
        drawn = [Bar(row[0], float(row[-1]), float(row[1])) for row in rows]
        parts.append(
            page.section(
                f"{prompt} ...",
                bars(drawn, reference="the grammar's true probability; the bar is the Transformer's"),
                page.table(("next word", "true", *MODELS.values()), rows),
            )
        )
    parts += [page.section(f"{title} writes", page.preformatted("\n".join(lines))) for title, lines in texts.items()]
    subtitle = "An n-gram, an LSTM and a Transformer on a grammar of Spanish that knows its own probabilities"
    files.write_text(out / "report.html", page.page("Vocablo: demo", parts, subtitle=subtitle))
