"""Which reader belongs to a model: told by how the model reads."""

from __future__ import annotations

from typing import Any

from vocablo.tasks._documents import DocumentReader
from vocablo.tasks._pairs import PairReader
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.text.tokenizer import Tokenizer

READERS: dict[str, type[Reader]] = {
    "left": Reader,
    "both": Reader,
    "two_way": Reader,
    "document": DocumentReader,
    "source_target": PairReader,
}


def reader_for(model: Any, tokenizer: Tokenizer, settings: ReadSettings) -> Reader:
    """The reader of a model and tokenizer as ``_fitting.fitted`` gives them. Raises ConfigError for settings that don't fit."""
    return READERS[model.reads](model, tokenizer, settings)
