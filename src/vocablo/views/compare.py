"""Models compared on one text: a table for each kind of score, on the terminal and as HTML with its drawings."""

from __future__ import annotations

import math
from typing import Any

from vocablo.base.progress import duration, quantity
from vocablo.views.page import paragraph
from vocablo.views.page import section as html_section
from vocablo.views.page import table as html_table
from vocablo.views.svg import Bar, Series, bars, curves
from vocablo.views.terminal import format_number, table

OTHERS = (
    "The models have different tokenizers: per token their numbers aren't comparable, per word and bits per byte are."
)
ONE = "The models share one tokenizer."
APART = "Kinds of score are sections of their own: their numbers are never ranked against each other."


def as_text(value: Any) -> str:
    """Every section with its table, then what has no score, and remarks."""
    lines = [about(value), *(f"{one}" for one in _header(value))]
    for section in value.sections:
        head = f"{section.kind[0].upper()}{section.kind[1:]}: {section.about}."
        lines += ["", head, table(header(section), [row(section, one) for one in section.models])]
        lines += [f"  {one.name} isn't ranked: {one.unranked}" for one in section.models if one.unranked]
    if value.spreads:
        lines += ["", "Over seeds:", table(*spread_table(value))]
    if value.unscored:
        lines += ["", "Without a score:", *(f"  {one.name} {one.absent}" for one in value.unscored)]
    return "\n".join([*lines, *([""] if remarks(value) else []), *(f"  {one}" for one in remarks(value))])


def as_html(value: Any) -> str:
    """The same as an HTML fragment, with the bars of each section and its perplexities by size and by cost."""
    parts = [paragraph(" ".join([about(value), *_header(value)]))]
    for section in value.sections:
        told = paragraph(f"{section.about[0].upper()}{section.about[1:]}.")
        rows = [row(section, one) for one in section.models]
        unranked = [paragraph(f"{one.name} isn't ranked: {one.unranked}.") for one in section.models if one.unranked]
        parts.append(html_section(section.kind, told, html_table(header(section), rows), *unranked, *drawings(section)))
    if value.spreads:
        parts.append(html_section("Over seeds", html_table(*spread_table(value))))
    if value.unscored:
        parts.append(
            html_section("Without a score", *(paragraph(f"{one.name} {one.absent}.") for one in value.unscored))
        )
    return "".join(parts + [paragraph(one) for one in remarks(value)])


def about(value: Any) -> str:
    """The text, and at what cost the models were trained for the comparison."""
    documents = f"{value.documents:,} document" + ("" if value.documents == 1 else "s")
    said = f"{', '.join(value.text)}: {documents}, {value.words:,} words, {value.bytes:,} bytes."
    return said + (f" Trained for this, {value.equal}." if value.equal else "")


def _header(value: Any) -> list[str]:
    lines = [ONE if value.one_tokenizer else OTHERS] if sum(len(one.models) for one in value.sections) > 1 else []
    return lines + ([APART] if len(value.sections) > 1 else [])


def header(section: Any) -> tuple[str, ...]:
    """Bits per byte stand only where some model has them, ``<unk>`` where some model met one."""
    per_byte, unknown = _columns(section)
    measures = (f"{section.measure}/token", "/word", *(("bits/byte",) if per_byte else ()))
    costs = ("parameters", "trained on", "FLOPs", "in", "scored at")
    return ("", "model", "family", *measures, *(("<unk>",) if unknown else ()), *costs)


def _columns(section: Any) -> tuple[bool, bool]:
    likelihoods = [one.likelihood for one in section.models]
    return any(one.bits_per_byte is not None for one in likelihoods), any(one.unknown for one in likelihoods)


def row(section: Any, one: Any) -> tuple[str, ...]:
    """One model's cells."""
    per_byte, unknown = _columns(section)
    told, cost = one.likelihood, one.training
    cells = ["-" if one.rank is None else str(one.rank), one.name, one.family]
    cells += [format_number(float(told.perplexity)), format_number(float(told.word_perplexity))]
    if per_byte:
        cells.append("-" if told.bits_per_byte is None else f"{told.bits_per_byte:.4f}")
    if unknown:
        cells.append(f"{told.unknown:,}")
    cells.append(quantity(one.parameters))
    if cost is None:
        cells += ["-", "-", "-"]
    else:
        cells.append(f"{quantity(cost.tokens)} tokens" + (", counted" if cost.counted else ""))
        cells.append("-" if cost.flops is None else f"{cost.flops:.2e}")
        cells.append("-" if cost.seconds is None else _seconds(cost.seconds))
    return (*cells, f"{quantity(one.tokens_per_second)} tokens/s")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 10 else duration(seconds)


def spread_table(value: Any) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Means over seeds with their standard deviations."""

    def cell(mean: float, deviation: float) -> str:
        return f"{mean:.2f} ± {deviation:.2f}" if math.isfinite(deviation) else format_number(mean)

    rows: list[tuple[str, ...]] = [
        (
            one.name, one.kind, str(one.runs), cell(one.perplexity, one.perplexity_deviation),
            cell(one.word_perplexity, one.word_perplexity_deviation),
        )
        for one in value.spreads
    ]  # fmt: skip
    return ("family", "kind", "runs", "per token", "per word"), rows


def remarks(value: Any) -> list[str]:
    """What the figures leave out."""
    scored = [one for section in value.sections for one in section.models]
    notes = list(value.notes)
    if any(one.likelihood.unknown for one in scored):
        notes.append(
            "bits per byte are not given where words were unknown: the vocabulary is closed, and they cost too little"
        )
    notes += [f"{one.name} was trained further: its figures leave out what {one.training.further} took" for one in scored if one.training and one.training.further]  # fmt: skip
    return notes


def drawings(section: Any) -> list[str]:
    """Perplexity per word as bars, and over parameters and training FLOPs where two models or more tell them."""
    unit = f"{section.measure} per word"
    models = [one for one in section.models if math.isfinite(one.likelihood.word_perplexity)]
    drawn = [bars([Bar(one.name, one.likelihood.word_perplexity) for one in models], title=unit)] if models else []
    for title, amounts in (
        ("parameters", {one.name: float(one.parameters) for one in models}),
        ("training FLOPs", {one.name: one.training.flops for one in models if one.training and one.training.flops}),
    ):
        found = {name: math.log10(amount) for name, amount in amounts.items() if amount > 0}
        if len(set(found.values())) > 1:
            points = [Series(one.name, ((found[one.name], one.likelihood.word_perplexity),)) for one in models if one.name in found]  # fmt: skip
            low, high = min(found.values()), max(found.values())
            places = sorted({low, high, *(float(place) for place in range(math.ceil(low), math.floor(high) + 1))})
            kept = [place for place in places if place in (low, high) or min(place - low, high - place) > 0.1 * (high - low)]  # fmt: skip
            marks = {place: f"{10**place:.1e}" for place in kept}
            drawn.append(curves(points, x=title, y=unit, marks=marks))
    return drawn
