"""What the lecture claims, each as an experiment of a few minutes on the embedded grammar; an experiment a file.

A file has, as literals, ``ABOUT`` (one line) and ``STEPS`` (of training, of each variant), and ``experiment(steps, seed,
quiet) -> Outcome``. All use the one training loop. Losses are means over targets, in nats; variants see the same text in
the same order. What they share is in ``_small.py``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from vocablo.base import registry
from vocablo.base.errors import ConfigError, nearest
from vocablo.views.page import page, paragraph, section, table

ROOM = "vocablo.evaluation.claims"


@dataclass(frozen=True, slots=True)
class Claim:
    """The outcome of an experiment: a table, and curves as SVG. ``seconds`` is what it took here."""

    name: str
    claim: str
    protocol: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    seconds: float
    drawings: dict[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        parts = [paragraph(self.claim), paragraph(self.protocol), table(self.header, self.rows)]
        return "".join(parts + [section(title, svg) for title, svg in self.drawings.items()])

    def html(self) -> str:
        """A page of one file."""
        return page(f"The claim: {self.name}", [self._repr_html_()])


def run(name: str, *, steps: int | None = None, seed: int = 0, quiet: bool = False) -> Claim:
    """Carry out one experiment. ``steps`` of training for each variant (default: the experiment's own).

    Raises ConfigError for an unknown name.
    """
    known = registry.names(ROOM)
    if name not in known:
        raise ConfigError(f"There is no claim {name!r}{nearest(name, known)}")
    one = registry.load(ROOM, name)
    begun = time.perf_counter()
    claim, protocol, header, rows, drawings = one.experiment(steps or one.STEPS, seed, quiet)
    return Claim(name, claim, protocol, header, tuple(rows), time.perf_counter() - begun, drawings)
