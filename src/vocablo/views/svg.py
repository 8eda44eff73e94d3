"""Charts as SVG strings: curves over steps, horizontal bars. No dependency, no script, readable on light and dark pages.

Colours are CSS variables with fallbacks (``views.page`` sets them for both schemes), so the same string works inside a
report, in a notebook cell and as a file of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

PALETTE = ("#2563ab", "#c2571a", "#2f855a", "#8a4fb0", "#b0304f", "#6b7280")
INK = "var(--ink, #1f2933)"
FAINT = "var(--faint, #9aa5b1)"
GRID = "var(--grid, #e4e7eb)"
FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: points (x, y) in any unit, with a name for its label. ``dashed`` for something not measured but known."""

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart; ``reference`` is drawn as a tick on the same scale (the true probability, say)."""

    label: str
    value: float
    reference: float | None = None


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About ``count`` round numbers that span [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's text: ``20000`` -> ``20k``, ``0.5`` -> ``0.5``."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:g}"


def curves(
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    width: int = 680,
    height: int = 320,
    title: str = "",
    marks: Mapping[float, str] | None = None,
) -> str:
    """A line chart. Non-finite points are left out; each curve carries its name at its right end.

    ``marks`` are what stands below places of the x axis, instead of round numbers.
    """
    kept = [
        Series(one.name, tuple(p for p in one.points if math.isfinite(p[0]) and math.isfinite(p[1])), one.dashed)
        for one in series
    ]
    kept = [one for one in kept if one.points]
    if not kept:
        return f"<p>{escape(title or y)}: nothing measured yet.</p>"
    xs = [p[0] for one in kept for p in one.points]
    low, high = _span([p[1] for one in kept for p in one.points])
    widest = max(len(number(value)) for value in ticks(low, high) or [0.0])
    left, right, top, bottom = 34 + 7 * widest, 150, 28 if title else 12, 40
    plot_width, plot_height = width - left - right, height - top - bottom
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return (
            left + plot_width * (point[0] - x_low) / (x_high - x_low),
            top + plot_height * (1 - (point[1] - low) / (high - low)),
        )

    out = [_open(width, height, title or f"{y} over {x}")]
    if title:
        out.append(_text(left, 16, title, weight="600"))
    for value in ticks(low, high):
        _, ty = at((x_low, value))
        out.append(f"<line x1='{left}' x2='{left + plot_width}' y1='{ty:.1f}' y2='{ty:.1f}' stroke='{GRID}'/>")
        out.append(_text(left - 8, ty + 4, number(value), anchor="end", fill=FAINT))
    below = {value: number(value) for value in ticks(x_low, x_high)} if marks is None else marks
    for value, label in below.items():
        tx, _ = at((value, low))
        out.append(_text(tx, top + plot_height + 18, label, anchor="middle", fill=FAINT))
    out.append(_text(left + plot_width / 2, height - 4, x, anchor="middle", fill=FAINT))
    out.append(
        f"<text x='12' y='{top + plot_height / 2:.0f}' transform='rotate(-90 12 {top + plot_height / 2:.0f})' "
        f"text-anchor='middle' font-size='12' {FONT} fill='{FAINT}'>{escape(y)}</text>"
    )
    ends = _spread([at(one.points[-1])[1] for one in kept], 15, top, top + plot_height)
    for index, (one, label_y) in enumerate(zip(kept, ends, strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(at, one.points))
        dash = " stroke-dasharray='5 4'" if one.dashed else ""
        if len(one.points) == 1:
            px, py = at(one.points[0])
            out.append(f"<circle cx='{px:.1f}' cy='{py:.1f}' r='3.5' fill='{colour}'/>")
        out.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'{dash}/>")
        out.append(_text(left + plot_width + 8, label_y + 4, one.name, fill=colour))
    return "".join(out) + "</svg>"


def bars(rows: Sequence[Bar], *, title: str = "", width: int = 560, unit: str = "", reference: str = "") -> str:
    """Horizontal bars on a scale from 0 to the greatest value; ``reference`` names the ticks of ``Bar.reference``."""
    top, row, label, tail = (30 if title else 8), 24, 170, 120
    height = top + row * len(rows) + (22 if reference else 8)
    greatest = max([r.value for r in rows] + [r.reference or 0 for r in rows] + [1e-12])
    room = width - label - tail
    out = [_open(width, height, title or "bars")]
    if title:
        out.append(_text(4, 18, title, weight="600"))
    for index, one in enumerate(rows):
        y = top + row * index
        out.append(_text(label - 8, y + 16, one.label, anchor="end"))
        length = max(room * one.value / greatest, 0.5)
        out.append(
            f"<rect x='{label}' y='{y + 4}' width='{length:.1f}' height='{row - 9}' rx='2' fill='{PALETTE[0]}' fill-opacity='.8'/>"
        )
        if one.reference is not None:
            x = label + room * one.reference / greatest
            out.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{y + 1}' y2='{y + row - 3}' stroke='{PALETTE[1]}' stroke-width='2.5'/>"
            )
        both = probability(one.value) + (f" ({probability(one.reference)})" if one.reference is not None else "")
        out.append(
            _text(label + max(length, room * (one.reference or 0) / greatest) + 8, y + 16, both + unit, fill=FAINT)
        )
    if reference:
        y = top + row * len(rows) + 6
        out.append(f"<line x1='{label}' x2='{label}' y1='{y}' y2='{y + 12}' stroke='{PALETTE[1]}' stroke-width='2.5'/>")
        out.append(_text(label + 8, y + 11, reference, fill=FAINT))
    return "".join(out) + "</svg>"


def probability(value: float) -> str:
    """A probability as people read it: ``0.5``, ``0.034``, ``2.1e-07``."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or max(abs(high) * 0.05, 1e-6)
    return low - pad, high + pad


def _spread(places: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart to at least ``gap``, keeping their order, within [low, high] where there is room."""
    order = sorted(range(len(places)), key=places.__getitem__)
    result = list(places)
    for before, here in itertools.pairwise(order):
        result[here] = max(result[here], result[before] + gap)
    excess = max(result, default=high) - high
    if excess > 0:
        result = [max(place - excess, low) for place in result]
        for before, here in itertools.pairwise(order):
            result[here] = max(result[here], result[before] + gap)
    return result


def _open(width: int, height: int, label: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='{escape(label, quote=True)}' style='max-width:100%;height:auto'>"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, weight: str = "400") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='12' font-weight='{weight}' {FONT} "
        f"fill='{fill}'>{escape(text)}</text>"
    )
