"""A text as attention read it: sentences with their weights on the left, words shaded by theirs (Yang et al. 2016, figure 5).

A word's shade is sqrt(p_s) p_w, p_w the weight of the word in its sentence and p_s that of the sentence in the document, so
that words of unimportant sentences are faint and not gone; the darkest word of the document has the full shade, and so has
the weightiest sentence. Where words alone are weighed (one sequence), there is nothing on the left.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import sqrt
from typing import Any

from vocablo.views.svg import FAINT, PALETTE

SENTENCE, WORD = (194, 87, 26), (37, 99, 171)  # PALETTE's orange and blue, to be mixed
TOLD, ABOVE = 0.6, 1.25  # of the full shade, and of an even weight: from here on a terminal without colours writes it


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence as it was read, or a whole text where words alone are weighed (``weight`` None).

    ``words`` are pieces of the text, ``spaced`` says where white space stands before one, ``weights`` sum to one, and
    ``known`` is false for what the model's vocabulary doesn't have.
    """

    weight: float | None
    words: tuple[str, ...]
    weights: tuple[float, ...]
    spaced: tuple[bool, ...]
    known: tuple[bool, ...]


def shades(passages: Sequence[Passage]) -> tuple[list[float], list[list[float]]]:
    """From 0 to 1: of each sentence, and of each of its words."""
    sentences = [1.0 if one.weight is None else one.weight for one in passages]
    words = [[sqrt(weight) * each for each in one.weights] for weight, one in zip(sentences, passages, strict=True)]
    most = max((each for some in words for each in some), default=0.0) or 1.0
    top = max(sentences, default=0.0) or 1.0
    return [weight / top for weight in sentences], [[each / most for each in some] for some in words]


STYLE = """
.vd{font:15px/1.9 system-ui,sans-serif;max-width:52rem}.vd div{display:flex;gap:.7rem;align-items:stretch;margin:2px 0}
.vd b{flex:0 0 3.6em;font-weight:400;font-size:12px;text-align:right;padding:0 .5em;border-radius:3px;align-self:stretch}
.vd span{padding:.15em .12em;border-radius:3px}.vd .un{text-decoration:underline dotted;text-underline-offset:.2em}
.vd p{margin:.5rem 0 0;font-size:13px;color:%FAINT%}.vd p.say{font-size:15px;color:inherit;margin:0 0 .6rem}
.vd i{display:inline-block;width:.9em;height:.9em;border-radius:2px;vertical-align:-.1em;margin:0 .3em 0 0}
""".strip().replace("%FAINT%", FAINT)


def document_html(passages: Sequence[Passage], saying: str = "") -> str:
    """The document as HTML that needs nothing else; ``saying`` is a line above it. A word says its weight when pointed at."""
    lines, words = shades(passages)
    rows = []
    for one, line, some in zip(passages, lines, words, strict=True):
        box = ""
        if one.weight is not None:
            box = f"<b style='background:{_mixed(SENTENCE, line)}' title='weight of the sentence {one.weight:.4f}'>{100 * one.weight:.0f} %</b>"
        pieces = [
            f"{' ' if space and place else ''}<span{'' if known else ' class=un'} style='background:{_mixed(WORD, shade)}' "
            f"title='{weight:.4f} of its sentence'>{escape(word)}</span>"
            for place, (word, weight, shade, space, known) in enumerate(
                zip(one.words, one.weights, some, one.spaced, one.known, strict=True)
            )
        ]  # fmt: skip
        rows.append(f"<div>{box}<section>{''.join(pieces)}</section></div>")
    key = [f"<i style='background:{PALETTE[0]}'></i>words, by their weight"]
    if any(one.weight is not None for one in passages):
        key = [f"<i style='background:{PALETTE[1]}'></i>sentences, by their weight", f"{key[0]} in the sentence × √(the sentence's)"]  # fmt: skip
    if not all(known for one in passages for known in one.known):
        key.append("dotted: not in the vocabulary")
    said = f"<p class=say>{escape(saying)}</p>" if saying else ""
    return f"<div class='vd'><style>{STYLE}</style>{said}{''.join(rows)}<p>{' &nbsp; '.join(key)}</p></div>"


def _mixed(colour: tuple[int, int, int], shade: float) -> str:
    return f"rgba({colour[0]},{colour[1]},{colour[2]},{0.75 * shade:.3f})"


def document_text(passages: Sequence[Passage], *, colour: bool, columns: int = 100) -> str:
    """The same for a terminal: with background colours, or with the weights of the darkest words behind them in percent."""
    from rich.console import Console
    from rich.table import Table

    lines, words = shades(passages)
    table = Table.grid(padding=(0, 2))
    left = any(one.weight is not None for one in passages)
    if left:
        table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for one, line, some in zip(passages, lines, words, strict=True):
        cells = [_weight(one.weight, line)] if left else []
        table.add_row(*cells, _words(one, some, colour))
    out = io.StringIO()
    Console(
        file=out,
        width=columns,
        force_terminal=colour,
        no_color=not colour,
        color_system="truecolor" if colour else None,
    ).print(table)
    return "\n".join(row.rstrip() for row in out.getvalue().rstrip("\n").split("\n"))


def _weight(weight: float | None, shade: float) -> Any:
    from rich.text import Text

    return Text("" if weight is None else f"{100 * weight:.0f} %", style=_style(SENTENCE, shade))


def _words(one: Passage, some: Sequence[float], colour: bool) -> Any:
    from rich.text import Text

    line = Text()
    for place, (word, weight, shade) in enumerate(zip(one.words, one.weights, some, strict=True)):
        if place and one.spaced[place]:
            line.append(" ")
        weighty = shade >= TOLD and weight * len(one.words) >= ABOVE
        told = f"[{100 * weight:.0f}]" if weighty and not colour else ""
        line.append(word + told, style=_style(WORD, shade) + ("" if one.known[place] else " underline"))
    return line


def _style(colour: tuple[int, int, int], shade: float) -> str:
    """Dark letters on a light background that grows darker, white ones from the middle on: readable on any terminal."""
    red, green, blue = (round(255 - (255 - part) * shade) for part in colour)
    return f"{'white' if shade > 0.55 else 'black'} on rgb({red},{green},{blue})"
