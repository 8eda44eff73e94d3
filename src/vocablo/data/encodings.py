"""Which encoding a file is written in: told from its bytes, named, and never decided in silence."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive (or a .docx, .odt, .epub)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "gzip-packed (its name should end in .gz)"),
    (b"\xfd7zXZ", "xz-packed (its name should end in .xz)"),
    (b"BZh", "bzip2-packed"),
    (b"PAR1", "a Parquet table"),
    (b"SQLite format", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"{\\rtf", "an RTF document"),
)
_WESTERN = frozenset("áéíóúüñÁÉÍÓÚÜÑ¿¡«»ºªàèìòùçâêîôûäëïößøåæãõÀÈÌÒÙÇÂÊÎÔÛÄËÏÖØÅÆÃÕ—–“”‘’…€")
_SINGLE = ("latin-1", "cp1252", "cp850", "mac-roman")


def mark(data: bytes) -> str | None:
    """The encoding that a byte-order mark at the beginning names, or None."""
    return next((name for prefix, name in _MARKS if data.startswith(prefix)), None)


def binary(data: bytes) -> str | None:
    """What a file that isn't text is, told from its first bytes; None when nothing says so."""
    return next((what for prefix, what in _BINARY if data.startswith(prefix)), None)


def detect(blocks: Iterable[bytes]) -> str | None:
    """The encoding that bytes read well as: utf-8 when they are valid, else the single-byte one whose high bytes
    are letters and marks of western European languages; None when there is none.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    valid = True
    counts: Counter[int] = Counter()
    for block in blocks:
        counts.update(block)
        try:
            decoder.decode(block) if valid else None
        except UnicodeDecodeError:
            valid = False
    try:
        decoder.decode(b"", final=True) if valid else None
    except UnicodeDecodeError:
        valid = False
    return "utf-8" if valid else _single(counts)


def _single(counts: Counter[int]) -> str | None:
    high = {byte: count for byte, count in counts.items() if byte >= 0x80}
    total = sum(high.values())

    def share(name: str) -> float:
        letters = {byte: bytes([byte]).decode(name, errors="replace") for byte in high}
        return sum(count for byte, count in high.items() if letters[byte] in _WESTERN) / total

    shares = {name: share(name) for name in _SINGLE} if total else {}
    best = max(shares, key=lambda name: shares[name], default=None)  # the first of equals
    return best if best is not None and shares[best] >= 0.8 else None
