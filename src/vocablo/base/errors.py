"""The errors a user meets. Each message says what was found, what is allowed and what to change.

The command line prints the message of any ``VocabloError`` as one line and leaves with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VocabloError(Exception):
    """Anything that a user can put right; never raised for a fault of our own."""


class ConfigError(VocabloError):
    """A setting, key, family, size or verb that doesn't exist or doesn't fit."""


class DataError(VocabloError):
    """Text or labels that can't be used: missing, empty, binary, wrongly encoded, too short, too long."""


class CheckpointError(VocabloError):
    """A model folder that is missing, damaged, foreign or of another format."""


class TrainingError(VocabloError):
    """A run that can't go on: a non-finite loss, an occupied output folder, a resume that doesn't match."""


class StorageError(VocabloError):
    """A file that can't be written: no space left, no permission."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest allowed one, then all of them (when they are few)."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    if not allowed:
        return hint
    listing = ", ".join(allowed) if len(allowed) <= 20 else ", ".join(allowed[:20]) + ", ..."
    return f"{hint} Known: {listing}"
