"""Self-contained HTML pages and the report of a training run: one file, no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from vocablo.views.svg import Series, curves
from vocablo.views.terminal import format_number

STYLE = """
:root{--ink:#1f2933;--faint:#616e7c;--grid:#e4e7eb;--paper:#fff;--panel:#f5f7fa}
@media (prefers-color-scheme:dark){:root{--ink:#e4e7eb;--faint:#9aa5b1;--grid:#323f4b;--paper:#1a2027;--panel:#222b35}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
.sub{color:var(--faint);margin-top:0}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid var(--grid)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:var(--panel);padding:.8rem;overflow-x:auto;border-radius:6px;white-space:pre-wrap}
.row{display:flex;flex-wrap:wrap;gap:1.5rem}
""".strip()


def page(title: str, parts: Iterable[str], *, subtitle: str = "", language: str = "en") -> str:
    """A whole HTML document from ready HTML parts. Title and subtitle are plain text."""
    return (
        f"<!doctype html><html lang='{language}'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width,initial-scale=1'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        + (f"<p class='sub'>{escape(subtitle)}</p>" if subtitle else "")
        + "\n".join(parts)
        + "</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading (plain text) and ready HTML parts."""
    return f"<h2>{escape(title)}</h2>" + "".join(parts)


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def preformatted(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table of plain values; numbers are aligned to the right."""

    def cell(value: object, tag: str, numeric: bool) -> str:
        text = value if isinstance(value, str) else format_number(value)
        return f"<{tag}{' class=n' if numeric else ''}>{escape(text)}</{tag}>"

    numeric = [bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    head = "".join(cell(name, "th", numeric[i]) for i, name in enumerate(header))
    body = "".join("<tr>" + "".join(cell(v, "td", numeric[i]) for i, v in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def facts(values: Mapping[str, object]) -> str:
    """A two-column table of names and values."""
    return table(
        ("", ""), [(name, value if isinstance(value, str) else format_number(value)) for name, value in values.items()]
    )


def _by_part(metrics: Sequence[Mapping[str, Any]], series: Callable[[str, str], Series]) -> list[str]:
    """Curves of the parts of a loss, and of what share of labels is told rightly, where a run has them."""
    keys = dict.fromkeys(key for line in metrics for key in line)
    drawn = []
    for title, prefix, unit in (
        ("Parts of the validation loss", "validation_loss_", "nats per target"),
        ("Validation accuracy", "validation_accuracy_", "share told rightly"),
    ):
        names = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
        if names:
            lines = [series(name.replace("_", " "), prefix + name) for name in names]
            drawn.append(section(title, curves(lines, x="step", y=unit)))
    warnings = [f"step {line['step']}: {line['warning']}" for line in metrics if line.get("warning")]
    return drawn + ([section("Warnings", *map(paragraph, warnings))] if warnings else [])


def run_report(
    title: str, metrics: Sequence[Mapping[str, Any]], about: Mapping[str, object], *, subtitle: str = ""
) -> str:
    """The report of one run. ``metrics`` are the lines of ``metrics.jsonl``: training and evaluation records by step."""

    def series(name: str, key: str) -> Series:
        return Series(name, tuple((line["step"], line[key]) for line in metrics if line.get(key) is not None))

    parts = [
        section(
            "Loss",
            curves([series("training", "loss"), series("validation", "validation_loss")], x="step", y="nats per token"),
        ),
        section(
            "Pace",
            "<div class='row'>",
            curves([series("learning rate", "lr")], x="step", y="learning rate", width=460, height=220),
            curves([series("tokens/s", "tokens_per_second")], x="step", y="tokens per second", width=460, height=220),
            "</div>",
        ),
    ]
    parts[1:1] = _by_part(metrics, series)
    samples = [(line["step"], line["sample"]) for line in metrics if line.get("sample")]
    if samples:
        parts.append(
            section("Samples along the way", *(preformatted(f"step {step}\n{text}") for step, text in samples))
        )
    parts.append(section("About this run", facts(about)))
    return page(title, parts, subtitle=subtitle)
