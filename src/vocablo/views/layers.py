"""Scores layer by layer: a curve from the embeddings to the last layer, and bars for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vocablo.views.svg import Series, curves
from vocablo.views.terminal import bar, table

Scores = Sequence[tuple[str, Sequence[float]]]  # of each measure: its name, and its value at every layer, shares of one


def layer_curves(scores: Scores, baselines: Sequence[float], title: str) -> str:
    """An SVG: each measure over the layers, times 100, and dashed what the baseline has of it."""
    series = []
    for (name, values), baseline in zip(scores, baselines, strict=True):
        points = tuple((float(layer), 100 * value) for layer, value in enumerate(values))
        ends = (points[0][0], points[-1][0])
        series += [
            Series(name, points),
            Series(f"majority, {name}", tuple((x, 100 * baseline) for x in ends), dashed=True),
        ]
    return curves(series, x="layer (0: embeddings)", y="x 100", title=title)


def layer_table(names: Sequence[str], scores: Scores, baselines: Sequence[float]) -> str:
    """A line for each layer with its measures, a bar of the first one, and the baseline above them."""
    header = ("layer", *(name for name, _ in scores), "")
    best = max(scores[0][1])
    rows = [("majority", *(f"{100 * value:.2f}" for value in baselines), bar(baselines[0]))]
    for layer, name in enumerate(names):
        values = [values[layer] for _, values in scores]
        mark = "  best" if values[0] == best else ""
        rows.append((name, *(f"{100 * value:.2f}" for value in values), bar(values[0]) + mark))
    return table(header, rows)
