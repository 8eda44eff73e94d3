"""Progress of long work, on standard error: a line that renews itself on a terminal, a plain line now and then elsewhere.

Every line has the share done, the rate and the time left, so that nobody has to guess whether to wait.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO


def duration(seconds: float) -> str:
    """``75`` -> ``1m15s``; ``4000`` -> ``1h06m``."""
    seconds = int(seconds + 0.5)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def quantity(number: float) -> str:
    """``1234567`` -> ``1.23M``."""
    for bound, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= bound:
            return f"{number / bound:.3g}{suffix}"
    return f"{number:.3g}"


def tell(note: str) -> None:
    """A remark on standard error."""
    print(f"note: {note}", file=sys.stderr, flush=True)


class Progress:
    """Shows how far a piece of work is. Use as a context manager; call ``advance``.

    ``total`` is in ``unit``s, or None when unknown; ``quiet`` shows nothing (for ``--json`` and other ranks). ``passing`` is
    for work within other work: nothing is shown in its first two seconds, and a terminal's line is wiped at its end.
    """

    PATIENCE = 2.0

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        *,
        quiet: bool = False,
        passing: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit, self.quiet, self.passing = label, total, unit, quiet, passing
        self.stream = stream or sys.stderr
        self.live = not quiet and self.stream.isatty()
        self.done = 0.0
        self.note = ""
        self.started = self.shown = time.perf_counter()
        self.first = 0.0  # work done before we started to count, by an earlier process

    def start_at(self, done: float) -> None:
        """Work that an earlier process did: counted as done, not in the rate."""
        self.done = self.first = done

    def advance(self, amount: float, note: str = "") -> None:
        """Add ``amount`` units; ``note`` (a loss, say) is shown behind the rate."""
        self.done += amount
        self.note = note or self.note
        now = time.perf_counter()
        wait = 0.2 if self.live else 10.0
        if self.passing and self.shown == self.started:  # nothing has been shown yet
            wait = self.PATIENCE
        if not self.quiet and now - self.shown >= wait:
            self.shown = now
            self._show()

    def line(self) -> str:
        """The line as it is shown."""
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        rate = (self.done - self.first) / elapsed
        parts = [f"{self.label}:"]
        if self.total:
            parts.append(f"{min(self.done / self.total, 1):4.0%}")
        parts.append(f"{quantity(self.done)}{f'/{quantity(self.total)}' if self.total else ''} {self.unit},")
        parts.append(f"{quantity(rate)} {self.unit}/s,")
        parts.append(
            f"{duration((self.total - self.done) / rate)} left"
            if self.total and rate > 0 and self.done < self.total
            else duration(elapsed)
        )
        return " ".join(parts) + (f"  {self.note}" if self.note else "")

    def _show(self, last: bool = False) -> None:
        if self.live:
            self.stream.write("\r\x1b[2K" + self.line() + ("\n" if last else ""))
        else:
            self.stream.write(self.line() + "\n")
        self.stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.quiet or (self.passing and self.shown == self.started):
            return
        if self.passing and self.live:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
        elif kind is None or self.live:  # an error's own line says more
            self._show(last=True)
