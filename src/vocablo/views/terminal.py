"""Results as plain text for a terminal or a log: aligned tables and bars of block characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

BLOCKS = " ▏▎▍▌▋▊▉█"


def width(text: str) -> int:
    """Columns a text takes: combining marks take none, wide East Asian characters two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, columns: int, right: bool = False) -> str:
    """The text filled with spaces to ``columns``; ``right`` aligns it to the right."""
    space = " " * max(columns - width(text), 0)
    return space + text if right else text + space


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "  ") -> str:
    """An aligned table. Columns whose cells all look like numbers are aligned to the right."""
    cells = [[cell if isinstance(cell, str) else format_number(cell) for cell in row] for row in rows]
    widths = [max([width(header[i]), *(width(row[i]) for row in cells)]) for i in range(len(header))]
    right = [bool(cells) and all(_numeric(row[i]) for row in cells) for i in range(len(header))]
    lines = [[*header], *cells]
    return "\n".join(
        indent + "  ".join(pad(cell, widths[i], right[i]) for i, cell in enumerate(line)).rstrip() for line in lines
    )


def bar(share: float, columns: int = 24) -> str:
    """A bar of block characters for a share in [0, 1]; anything above zero shows at least a sliver."""
    eighths = round(max(0.0, min(share, 1.0)) * columns * 8)
    if share > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (BLOCKS[rest] if rest else "")


def format_number(value: object) -> str:
    """A cell's text: integers with thousands separated, floats with about four significant digits, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == 0:
            return "0"
        if abs(value) >= 10000:
            return f"{value:,.0f}"
        return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4g}" if abs(value) >= 0.001 else f"{value:.1e}"
    return str(value)


def _numeric(text: str) -> bool:
    return (
        text in ("-", "")
        or text.replace(",", "").lstrip("+-").replace(".", "").replace("e-", "").replace("%", "").isdigit()
    )
