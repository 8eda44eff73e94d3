"""What reading and writing share: the markers and the numbers that stand for something."""

from __future__ import annotations

import math
from pathlib import Path

ENDINGS = (".arpa", ".arpa.gz")
START, END, UNKNOWN = "<s>", "</s>", ("<unk>", "<UNK>")
NEVER, UNSEEN = -99.0, -100.0  # log10 p of <s>, by convention, and of unknown words in a file without <unk>
BLOCK = 1 << 13  # lines at once
LN10 = math.log(10)


def is_arpa(path: str | Path) -> bool:
    """Whether a path is named as an ARPA file: ``.arpa`` or ``.arpa.gz``."""
    return str(path).endswith(ENDINGS)
