"""A PNG image of one colour whose opacity is the value: small, and readable on a light and on a dark page.

The format is the standard's (W3C PNG, third edition): signature, header, palette with opacities, compressed rows.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

COLOUR = (0x25, 0x63, 0xAB)


def png(levels: NDArray[np.uint8]) -> bytes:
    """The image of ``levels`` [height, width]: 0 is transparent, 255 is the full colour."""
    height, width = levels.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # every row begins with its filter: none
    rows[:, 1:] = levels
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(COLOUR) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def as_source(levels: NDArray[np.uint8]) -> str:
    """The image as the address of an ``img``: nothing is asked for from anywhere."""
    return "data:image/png;base64," + base64.b64encode(png(levels)).decode()


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
