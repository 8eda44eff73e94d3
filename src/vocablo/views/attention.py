"""Attention weights as a person can read them: a table for the terminal, one head as SVG, all heads as a page of one file.

Rows are the tokens that look, columns those that are looked at, and a row sums to 1. Shades are the square root of the
weight, because many weights are small: a cell of half the shade has a quarter of the weight.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from vocablo.views.png import as_source
from vocablo.views.svg import FAINT, FONT, GRID, INK, PALETTE
from vocablo.views.terminal import pad, width

SHADES = " ░▒▓█"
CELL = 5  # columns of the terminal for one weight, with a space
DRAWN = 100  # tokens up to which every cell is a shape that can be pointed at; above that a head is one image

Floats = NDArray[np.float32]


def heat_table(
    tokens: Sequence[str], weights: Floats, *, columns: int = 100, looked: Sequence[str] | None = None
) -> str:
    """The weights [T, S] in percent, shaded; ``columns`` wide at most, the looked-at tokens in several blocks if need be.

    ``looked`` are the tokens that are looked at, where they are others.
    """
    looked = tokens if looked is None else looked
    names = [_short(token, 12) for token in tokens]
    edge = max(width(name) for name in names)
    room = max((columns - edge - 2) // CELL, 1)
    blocks = []
    for start in range(0, len(looked), room):
        stop = min(start + room, len(looked))
        head = "".join(pad(_short(token, CELL - 1), CELL, right=True) for token in looked[start:stop])
        lines = [" " * (edge + 2) + head]
        for name, row in zip(names, weights[:, start:stop], strict=True):
            lines.append("  " + pad(name, edge) + "".join(_cell(float(value)) for value in row))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cell(weight: float) -> str:
    if weight == 0:  # the token may not look there
        return " " * CELL
    percent = round(100 * weight)
    if percent == 0:
        return "·".rjust(CELL)
    shade = SHADES[min(int(np.sqrt(weight) * len(SHADES)), len(SHADES) - 1)]
    return f"{shade}{percent}".rjust(CELL)


def _short(token: str, most: int) -> str:
    token = visible(token)
    return token if len(token) <= most else token[: most - 1] + "…"


def visible(token: str) -> str:
    """A token with white space made visible where it is all that there is, and left out at the borders otherwise."""
    stripped = token.strip()
    return stripped or token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(empty)"


def levels(weights: Floats) -> NDArray[np.uint8]:
    """Shades from 0 to 255 of weights from 0 to 1."""
    return np.round(255 * np.sqrt(np.clip(weights, 0, 1))).astype(np.uint8)


def head_svg(tokens: Sequence[str], weights: Floats, title: str, looked: Sequence[str] | None = None) -> str:
    """One head [T, S] as a picture: each cell says its tokens and its weight when it is pointed at."""
    names = [visible(token) for token in tokens]
    others = names if looked is None else [visible(token) for token in looked]
    count = max(len(names), len(others))
    cell = max(4, min(26, 640 // count))
    size = min(12, cell + 1)
    left, top = (round(14 + 0.58 * size * min(max(map(len, of)), 24)) if cell >= 8 else 8 for of in (names, others))
    high, wide = cell * len(names), cell * len(others)
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {left + wide + 8} {top + high + 28}' "
        f"width='{left + wide + 8}' height='{top + high + 28}' role='img' aria-label='{escape(title, quote=True)}'>",
        f"<text class='va-title' x='{left}' y='{top + high + 20}' font-size='13' font-weight='600' {FONT} fill='{INK}'>"
        f"{escape(title)}</text>",
    ]
    if cell >= 8:
        for index, name in enumerate(names):
            at = cell * (index + 0.5) + size * 0.35
            out.append(f"<text x='{left - 6}' y='{top + at:.1f}' text-anchor='end' font-size='{size}' {FONT} fill='{INK}'>{_label(name)}</text>")  # fmt: skip
        for index, name in enumerate(others):
            at = cell * (index + 0.5) + size * 0.35
            out.append(f"<text transform='translate({left + at:.1f} {top - 6}) rotate(-90)' font-size='{size}' {FONT} fill='{INK}'>{_label(name)}</text>")  # fmt: skip
    if count <= DRAWN:
        for i, row in enumerate(names):
            for j, column in enumerate(others):
                weight = float(weights[i, j])
                out.append(
                    f"<rect x='{left + cell * j}' y='{top + cell * i}' width='{cell}' height='{cell}' fill='{PALETTE[0]}' "
                    f"fill-opacity='{np.sqrt(weight):.3f}'><title>{escape(f'{row} → {column}: {weight:.3f}')}</title></rect>"
                )
    else:
        out.append(
            f"<image x='{left}' y='{top}' width='{wide}' height='{high}' style='image-rendering:pixelated' "
            f"href='{as_source(levels(weights))}'/>"
        )
    out.append(f"<rect x='{left}' y='{top}' width='{wide}' height='{high}' fill='none' stroke='{GRID}' pointer-events='none'/>")  # fmt: skip
    return "".join(out) + "</svg>"


def _label(name: str) -> str:
    return escape(name if len(name) <= 24 else name[:23] + "…")


STYLE = (
    """
.va{display:flex;flex-wrap:wrap;gap:1.5rem;align-items:flex-start;font:13px system-ui,sans-serif}
.va table{border-collapse:collapse;margin:0}.va td,.va th{padding:1px;border:0;font-weight:400;text-align:center;color:%FAINT%}
.va th:first-child{text-align:right;padding-right:6px}
.va img{display:block;image-rendering:pixelated;border:1px solid %GRID%;border-radius:2px;cursor:pointer}
.va img.on{outline:2px solid %ACCENT%;outline-offset:0}
.va rect:hover{stroke:%ACCENT%;stroke-width:2}.va svg{max-width:100%;height:auto}.va p{margin:.5rem 0 0;color:%FAINT%;max-width:22em}
.va>.large{flex:1 1 26rem;min-width:0}
""".strip()
    .replace("%FAINT%", FAINT)
    .replace("%GRID%", GRID)
    .replace("%ACCENT%", PALETTE[1])
)

# A click on a small head shows it large: shades and tips of the large one are set from the bytes that the image carries.
SCRIPT = """
(function(box){
var large=box.querySelector('svg'),cells=large.querySelectorAll('rect title'),picture=large.querySelector('image');
box.addEventListener('click',function(event){
 var small=event.target;if(small.tagName!=='IMG')return;
 box.querySelectorAll('img').forEach(function(one){one.className=one===small?'on':'';});
 large.querySelector('.va-title').textContent=small.title;
 if(picture){picture.setAttribute('href',small.src);return;}
 var bytes=atob(small.dataset.w);
 cells.forEach(function(cell,i){
  var shade=bytes.charCodeAt(i)/255,named=cell.textContent.split(': ');named.pop();
  cell.parentNode.setAttribute('fill-opacity',shade.toFixed(3));
  cell.textContent=named.join(': ')+': '+(shade*shade).toFixed(3);
 });
});
})(document.currentScript.parentNode);
""".strip()


def heads_html(
    tokens: Sequence[str],
    weights: NDArray[np.float32],
    layers: Sequence[int],
    heads: Sequence[int],
    looked: Sequence[str] | None = None,
) -> str:
    """All heads small, layers x heads [L, H, T, S], and one large; a click on a small one shows it large.

    The last column is the mean of the heads. Without scripts the mean of the last layer is the large one, and all else stays.
    """
    shown = len(layers) - 1, len(heads) if len(heads) > 1 else 0
    side = 38 if len(heads) <= 6 else 26
    rows = []
    for index, layer in enumerate(layers):
        matrices = list(weights[index]) + ([weights[index].mean(0)] if len(heads) > 1 else [])
        cells = []
        for place, matrix in enumerate(matrices):
            name = f"layer {layer}, " + (f"head {heads[place]}" if place < len(heads) else "mean of the heads")
            cells.append(_small(matrix, name, side, on=(index, place) == shown, carry=max(weights.shape[2:]) <= DRAWN))
        rows.append(f"<tr><th>layer {layer}</th>{''.join(cells)}</tr>")
    names = "".join(f"<th>{head}</th>" for head in heads) + ("<th>mean</th>" if len(heads) > 1 else "")
    last = weights[-1]
    title = f"layer {layers[-1]}, " + ("mean of the heads" if len(heads) > 1 else f"head {heads[0]}")
    large = head_svg(tokens, last.mean(0) if len(heads) > 1 else last[0], title, looked)
    grid = f"<table><tr><th>head</th>{names}</tr>{''.join(rows)}</table>"
    note = "<p>Rows look at columns; the shade is the square root of the weight. Click a head to see it large.</p>"
    return f"<div class='va'><style>{STYLE}</style><div>{grid}{note}</div><div class='large'>{large}</div><script>{SCRIPT}</script></div>"


def _small(matrix: Floats, name: str, side: int, *, on: bool, carry: bool) -> str:
    shades = levels(matrix)
    data = f" data-w='{base64.b64encode(shades.tobytes()).decode()}'" if carry else ""
    return f"<td><img{' class=on' if on else ''} width={side} height={side} src='{as_source(shades)}' title='{name}' alt='{name}'{data}></td>"
