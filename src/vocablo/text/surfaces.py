"""From a token of the vocabulary to the text that it stands for, for every way that tokenizers spell their tokens.

Byte-level tokenizers write bytes as printable letters (Radford et al. 2019), SentencePiece writes a space as ``▁``,
WordPiece marks a token that goes on with a word by ``##``.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

METASPACE = "▁"


def _byte_letters() -> str:
    """The letter of every byte: itself where it prints in Latin-1, else the next free code point from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(256, 512))
    return "".join(chr(byte) if byte in printable else chr(next(spare)) for byte in range(256))


BYTE_LETTERS = _byte_letters()
_BYTE_OF = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


def pipeline(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer's settings as plain data without its vocabulary; ``merges`` says only whether there are any."""
    settings = json.loads(tokenizer.to_str())
    model = settings["model"]
    settings["merges"] = bool(model.pop("merges", None))
    model.pop("vocab", None)
    model.setdefault("type", "BPE")  # old files leave it out
    return settings


def spelling(settings: dict[str, Any]) -> str:
    """How a vocabulary spells text: ``bytes``, ``metaspace``, ``wordpiece``, ``words`` or ``characters``.

    Read from the pipeline itself, so that foreign tokenizers are understood as well as our own.
    """
    model = settings["model"]["type"]
    parts = json.dumps([settings[name] for name in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False)
    if '"ByteLevel"' in parts:
        return "bytes"
    if METASPACE in parts:
        return "metaspace"
    if model == "WordPiece":
        return "wordpiece"
    return "words" if model == "WordLevel" else "characters"


def raw_bytes(token: str, spelled: str) -> bytes:
    """The UTF-8 bytes that a token stands for (a part of a character's bytes, for byte-level tokenizers)."""
    if spelled == "bytes":
        if all(letter in _BYTE_OF for letter in token):
            return bytes(_BYTE_OF[letter] for letter in token)
    elif spelled == "metaspace":
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace(METASPACE, " ").encode()
    elif spelled == "wordpiece":
        return token.removeprefix("##").encode() if len(token) > 2 else token.encode()
    return token.encode()


def readable(data: bytes) -> str:
    """UTF-8 bytes as text; bytes that are only a part of a character are shown as ``\\xc3``."""
    return data.decode("utf-8", errors="backslashreplace")
