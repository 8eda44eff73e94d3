"""From generated tokens to text as they come: whole characters only, and stop strings found across token borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vocablo.base.errors import ConfigError

HALF = "\ufffd"  # what a decoder shows for bytes that are only a part of a character
MEMORY = 8  # tokens whose text is looked at again, since decoders join neighbours (a space, an accent's bytes)


class StopStrings:
    """Finds the first of several strings in a text that comes in pieces.

    ``feed`` returns what is safe to show: text that may be the start of a stop string is held back until that is decided.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ConfigError("A stop string can't be empty: every text has it.")
        self.stops = tuple(stops)
        self.held = ""

    def feed(self, piece: str) -> tuple[str, bool]:
        """The text that is safe to show, without the stop string, and whether one was found."""
        text = self.held + piece
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if found:
            self.held = ""
            return text[: min(found)], True
        keep = next((n for n in range(self._longest(text), 0, -1) if self._may_start(text[-n:])), 0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, once nothing follows."""
        held, self.held = self.held, ""
        return held

    def _longest(self, text: str) -> int:
        return min(len(text), max((len(stop) - 1 for stop in self.stops), default=0))

    def _may_start(self, end: str) -> bool:
        return any(stop.startswith(end) for stop in self.stops)


class TextStream:
    """Turns ids into pieces of text that, joined, are the text of all of them.

    ``decode`` turns ids into text; ``before`` are tokens that come first and aren't shown (the prompt's), so that the
    space between the last of them and the first new word is right.
    """

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int] = ()) -> None:
        self.decode = decode
        self.ids = list(before[-MEMORY:])
        self.shown = decode(self.ids) if self.ids else ""

    def feed(self, token: int) -> str:
        """The text that this token completes; empty while a character is only begun."""
        self.ids.append(token)
        text = self.decode(self.ids)
        if text.endswith(HALF):
            return ""
        piece = text[len(self.shown) :]
        if len(self.ids) > 4 * MEMORY:
            self.ids = self.ids[-MEMORY:]
            text = self.decode(self.ids)
        self.shown = text
        return piece

    def flush(self) -> str:
        """What a last, unfinished character looks like."""
        text = self.decode(self.ids) if self.ids else ""
        piece, self.shown = text[len(self.shown) :], text
        return piece
