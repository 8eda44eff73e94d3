"""A paper's table with our lines below its own: for the terminal and as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vocablo.views.page import paragraph
from vocablo.views.page import table as html_table
from vocablo.views.terminal import table


def as_text(value: Any) -> str:
    """Published lines, ours, and in what they differ."""
    lines = [f"  Table {value.number}. {value.title} ({value.source})", table(_header(value), list(_rows(value)))]
    return "\n".join([*lines, "", *(f"  differs: {one}" for one in value.differs)])


def as_html(value: Any) -> str:
    """The same as an HTML fragment."""
    rows = list(_rows(value))
    told = "".join(paragraph(f"Differs: {one}") for one in value.differs)
    return paragraph(f"Table {value.number}. {value.title} ({value.source})") + html_table(_header(value), rows) + told


def _header(value: Any) -> tuple[str, ...]:
    return ("system", *value.lead, *value.columns)


def _rows(value: Any) -> Iterator[tuple[str, ...]]:
    for row in value.published:
        yield (row.system, *row.facts, *(_published(one) for one in row.values))
    for row in value.ours:
        yield (f"ours: {row.system}", *row.facts, *(_ours(one) for one in row.values))


def _published(one: Any) -> str:
    """A figure with as many digits as papers print: one, or two of a perplexity."""
    if one.value is None:
        return one.absent
    return f"{one.value:.1f}" if round(one.value, 1) == one.value else f"{one.value:.2f}"


def _ours(one: Any) -> str:
    """A figure with its deviation over seeds, or of a single seed its interval over examples."""
    if one.value is None:
        return one.absent
    if one.deviation is not None:
        return f"{one.value:.2f} ± {one.deviation:.2f}"
    return f"{one.value:.2f}" + ("" if one.low is None else f" ({one.low:.1f}-{one.high:.1f})")
