"""F1 of tagged spans (entities, chunks), by the rules of conlleval, or strictly by the scheme IOB2.

lenient   as conlleval (Tjong Kim Sang 2000) and seqeval by default: a span begins at B or S, after E or S, and wherever its
          type differs from that of the token before; so IOB1, IOB2 and IOBES are all read, and an I after O begins a span
strict    IOB2: a span begins at B and goes on with I of the same type; an I that no span leads to belongs to none

A span is right when its type, its first and its last token are. Tags are ``O`` or ``B-TYPE``, with I, E and S for
inside, end and single (L, U and M are read as E, S and I).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.measures.measurement import Measurement, Rows, check_pairs

MODES = ("lenient", "strict")
_KINDS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Tokens ``start`` to ``end`` (one past the last) of a type."""

    start: int
    end: int
    type: str


def split(tag: str) -> tuple[str, str]:
    """``"B-LOC"`` -> ``("B", "LOC")``; ``"O"`` -> ``("O", "")``. Raises DataError for what isn't such a tag."""
    if tag == "O":
        return "O", ""
    kind, dash, name = tag.partition("-")
    if kind not in _KINDS or not (dash and name):
        raise DataError(f"{tag!r} isn't a tag of spans: write O, or B-, I-, E- or S- before the type, as in B-LOC.")
    return _KINDS[kind], name


def spans(tags: Iterable[str], mode: str = "lenient") -> list[Span]:
    """The spans of a sentence's tags, in order."""
    if mode not in MODES:
        raise ConfigError(f"There is no way {mode!r} of reading tags{nearest(mode, MODES)}")
    found: list[Span] = []
    start, kind, name = -1, "O", ""  # the open span's first token, and the tag before
    at = 0
    for at, tag in enumerate([*tags, "O"]):
        before, type_before = kind, name
        kind, name = split(tag)
        if mode == "strict":
            goes_on = start >= 0 and kind == "I" and name == type_before
            begins = kind == "B"
        else:
            goes_on = start >= 0 and kind in "IE" and name == type_before and before not in "ES"
            begins = kind != "O" and not goes_on
        if start >= 0 and not goes_on:
            found.append(Span(start, at, type_before))
            start = -1
        if begins:
            start = at
    return found


@dataclass(frozen=True, slots=True)
class SpanMeasures:
    """Precision, recall and F1 of spans, with how many there are, were predicted, and are right."""

    precision: Measurement
    recall: Measurement
    f1: Measurement
    gold: int
    predicted: int
    right: int


def span_f1(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], mode: str = "lenient"
) -> dict[str, SpanMeasures]:
    """Measures of each type, by name, and under ``""`` those of all types together (micro).

    The arguments are the tags of each sentence. Intervals are over sentences. Raises DataError when sentences don't have
    as many predicted tags as tokens.
    """
    check_pairs(gold, predicted, "sentences")
    counts: dict[str, Rows] = {"": np.zeros((len(gold), 3))}
    for row, (true, given) in enumerate(zip(gold, predicted, strict=True)):
        if len(true) != len(given):
            raise DataError(f"Sentence {row + 1} has {len(true)} tokens and {len(given)} predicted tags.")
        there, found = set(spans(true, mode)), set(spans(given, mode))
        for column, some in enumerate((there & found, found, there)):
            for span in some:
                counts[""][row, column] += 1
                counts.setdefault(span.type, np.zeros((len(gold), 3)))[row, column] += 1
    return {name: _measures(counts[name]) for name in sorted(counts)}


def tag_accuracy(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Measurement:
    """The share of tokens whose tag is right, with an interval over sentences; of part-of-speech tags too."""
    check_pairs(gold, predicted, "sentences")
    rows = []
    for row, (true, given) in enumerate(zip(gold, predicted, strict=True)):
        if len(true) != len(given):
            raise DataError(f"Sentence {row + 1} has {len(true)} tokens and {len(given)} predicted tags.")
        rows.append((sum(one == other for one, other in zip(true, given, strict=True)), len(true)))
    return Measurement("tag accuracy", np.array(rows, dtype=np.float64), _ratio(0, 1), unit="sentences")


def _measures(rows: Rows) -> SpanMeasures:
    right, found, there = (int(total) for total in rows.sum(0))
    make = lambda name, statistic: Measurement(name, rows, statistic, unit="sentences")  # noqa: E731
    return SpanMeasures(
        make("precision", _ratio(0, 1)), make("recall", _ratio(0, 2)), make("f1", _f1), there, found, right
    )


def _ratio(above: int, below: int):
    def statistic(rows: Rows) -> float:
        sums = rows.sum(0)
        return float(sums[above] / sums[below]) if sums[below] else 0.0

    return statistic


def _f1(rows: Rows) -> float:
    right, found, there = rows.sum(0)
    return float(2 * right / (found + there)) if found + there else 0.0
