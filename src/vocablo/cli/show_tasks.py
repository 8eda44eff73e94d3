"""How results of labelled tasks look on a terminal."""

from __future__ import annotations

from typing import Any

from vocablo.base import registry
from vocablo.base.progress import duration, quantity
from vocablo.cli.show import _plan
from vocablo.views.svg import probability
from vocablo.views.terminal import format_number, table


def finetuned(value: Any) -> str:
    """What was learnt, how good it is, and what to try next; or what a run would cost."""
    facts: list[tuple[str, object]] = [
        ("task", value.task + _labels(value.labels)),
        ("model", value.model),
        ("examples", f"{value.examples:,} to learn from, {value.dev_examples:,} held out"),
    ]
    if value.parameters:
        head = "" if registry.constant("vocablo.tasks", value.task, "PAIRS") else ", and the head"
        facts.append(("parameters", f"{quantity(value.parameters)}, {quantity(value.trained)} of them trained{head}"))
    facts += _plan(value.plan) if value.plan is not None else []
    if value.value is not None and value.measure == "perplexity":
        facts.append(("held-out perplexity", value.value))
    elif value.value is not None:
        spread = "" if value.deviation is None else f" ± {100 * value.deviation:.2f} (standard deviation over seeds)"
        facts.append((f"held-out {value.measure}", f"{100 * value.value:.2f}{spread}"))
    lines = [f"  {name:<20}{cell if isinstance(cell, str) else format_number(cell)}" for name, cell in facts]
    if len(value.runs) > 1:
        rows = [
            (
                one.seed,
                one.batch,
                f"{one.lr:g}",
                one.epochs,
                _first(one.measures),
                _first(one.last),
                duration(one.seconds),
                one.out,
            )
            for one in value.runs
        ]
        lines += [
            "",
            table(("seed", "batch", "lr", "epochs", value.measure or "", "last step", "time", "folder"), rows),
        ]
    if value.scores:
        lines += ["", scores(value.scores)]
    if value.next:
        lines += ["", "Try:", *(f"  {line}" for line in value.next)]
    return "\n".join(lines)


def scores(value: Any) -> str:
    """Measures times 100, with their intervals."""
    rows = [
        (
            one.name,
            f"{100 * one.value:.2f}",
            "" if one.interval is None else f"{100 * one.interval.low:.2f} to {100 * one.interval.high:.2f}",
            f"{one.count:,} {one.unit}",
        )
        for one in value
    ]
    return table(("measure", "x 100", "95 % interval", "of"), rows)


def predictions(value: Any) -> str:
    """Predictions, one a line, or one with all its probabilities."""
    if hasattr(value, "output"):
        return written([value])
    if not isinstance(value, list):
        rows = [(label, probability(prob)) for label, prob in sorted(value.probs.items(), key=lambda item: -item[1])]
        return f"{_line(value)[0]}\n{table(('label', 'p'), rows)}"
    return "\n".join("\t".join(_line(one)) for one in value)


def tagged(value: Any) -> str:
    """Words with their tags, and the spans that they mark."""
    if isinstance(value, list):
        return "\n\n".join(map(tagged, value))
    rows = [
        (word, tag, probability(prob)) for word, tag, prob in zip(value.words, value.tags, value.probs, strict=True)
    ]
    lines = [table(("word", "tag", "p"), rows)]
    lines += [f"  {one.type}: {one.text}" for one in value.spans]
    return "\n".join(lines)


def answered(value: Any) -> str:
    """The answer, and what else it might be."""
    rows = [(" ".join(one.text.split()), probability(one.prob)) for one in value.alternatives[:5]]
    return f"{_line(value)[0]}\n{table(('possible answer', 'p'), rows)}"


def chosen(value: Any) -> str:
    """The choices, the chosen one first."""
    ranked = sorted(zip(value.choices, value.probs, strict=True), key=lambda item: -item[1])
    return (
        f"{value.choices[value.choice]}\n{table(('choice', 'p'), [(text, probability(prob)) for text, prob in ranked])}"
    )


def written(value: Any) -> str:
    """What was written, one a line; of several hypotheses a table of each text's, best first."""
    if all(len(one.best) <= 1 for one in value):
        return "\n".join(" ".join(one.output.split()) for one in value)
    blocks = []
    for one in value:
        rows = [(each.text, f"{each.score:.4f}", f"{each.log_prob:.4f}", each.tokens) for each in one.best]
        blocks.append(f"{one.text}\n{table(('written', 'score', 'log p', 'tokens'), rows)}")
    return "\n\n".join(blocks)


def _line(one: Any) -> tuple[str, str]:
    """What was predicted, and of what, for a prediction of any task."""
    if hasattr(one, "output"):
        return one.output, one.text
    if hasattr(one, "tags"):
        return " ".join(one.tags), " ".join(one.words)
    if hasattr(one, "question"):
        return " ".join(one.text.split()) or "(no answer)", one.question
    if hasattr(one, "choices"):
        return one.choices[one.choice], one.text
    text = one.text if one.pair is None else f"{one.text} | {one.pair}"
    if hasattr(one, "value"):
        return f"{one.value:.4f}", text
    label = one.label if isinstance(one.label, str) else ", ".join(one.label) or "(none)"
    return label if one.prob is None else f"{label}  {one.prob:.3f}", text


def _labels(labels: Any) -> str:
    """The first labels in brackets; none where there is one output."""
    return f" ({', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''})" if len(labels) > 1 else ""


def _first(measures: Any) -> str:
    name, value = next(iter(measures.items()), ("", None))
    return "" if value is None else f"{value:.2f}" if name == "perplexity" else f"{100 * value:.2f}"
