"""Special tokens: which roles there are, what our kinds call them, and how those of a foreign tokenizer are found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vocablo.base.errors import CheckpointError, ConfigError, nearest

MASK, SENTINEL = "<mask>", "<extra_id_{}>"  # as BART and T5 write them
# What transformers calls each role, the first name being the one that we look for first.
_KEYS = {
    "end": ("eos_token", "sep_token", "bos_token"),
    "unk": ("unk_token",),
    "pad": ("pad_token",),
    "cls": ("cls_token",),
    "sep": ("sep_token",),
    "mask": ("mask_token",),
}
_GUESSES = {
    "end": (
        "<end>",
        "<|endoftext|>",
        "</s>",
        "<|end_of_text|>",
        "<eos>",
        "[EOS]",
        "[SEP]",
        "<|im_end|>",
        "<s>",
        "<bos>",
    ),
    "unk": ("<unk>", "[UNK]", "<|unk|>", "<UNK>"),
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
}


@dataclass(frozen=True, slots=True)
class Specials:
    """The text of each special token, or None. ``end`` is the boundary between documents."""

    end: str | None = None
    unk: str | None = None
    pad: str | None = None
    cls: str | None = None
    sep: str | None = None
    mask: str | None = None

    @property
    def all(self) -> list[str]:
        """Every special token once, in the order of its id: BERT's order for BERT's tokens."""
        order = (self.pad, self.end if self.end != self.sep else None, self.unk, self.cls, self.sep, self.mask)
        return list(dict.fromkeys(name for name in order if name is not None))

    @classmethod
    def of(cls, kind: str, changes: Mapping[str, str | None] | None = None) -> Specials:
        """The special tokens of one of our kinds; ``changes`` (role to text, None to do without) win."""
        if kind == "wordpiece":
            roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "end": "[SEP]"}
        else:
            roles = {"end": "<end>"} | ({"unk": "<unk>"} if kind in ("char", "word", "unigram") else {})
        known = [field.name for field in fields(cls)]
        for role, name in (changes or {}).items():
            if role not in known:
                raise ConfigError(f"There is no special token role {role!r}{nearest(role, known)}")
            if name == "":
                raise ConfigError(f"The special token {role!r} can't be empty; None does without it.")
        return cls(**(roles | dict(changes or {})))

    @classmethod
    def found(cls, folder: Path | None, added: Iterable[str], vocabulary: Mapping[str, int]) -> Specials:
        """The specials of a tokenizer on disk: what the files beside it say, else guessed from its added tokens."""
        said: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            said |= {key: value for key, value in read_json(folder / name).items() if value} if folder else {}
        named = any(key in said for keys in _KEYS.values() for key in keys)
        added = set(added)
        roles: dict[str, str] = {}
        for role, keys in _KEYS.items():
            texts = [_text(said[key]) for key in keys if key in said]
            # The files may name a token that the vocabulary lacks (transformers would add it); a model has no such row.
            texts = [text for text in texts if text in vocabulary]
            if not named:
                texts = [guess for guess in _GUESSES[role] if guess in added]
            if texts:
                roles[role] = texts[0]
        return cls(**roles)

    def to_config(self) -> dict[str, str]:
        """The entries of tokenizer_config.json. A left-to-right tokenizer's one boundary begins and ends a text."""
        config = {f"{role}_token": text for role, text in asdict(self).items() if text is not None and role != "end"}
        if self.end is not None and self.end != self.sep:
            config |= {"bos_token": self.end, "eos_token": self.end}
        return config


def _text(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value)


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file, empty when there is none. Raises CheckpointError when it isn't one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} can't be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object.")
    return value
