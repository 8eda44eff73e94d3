"""What goes wrong between a model that reads both ways and a pretext for it, found before training starts."""

from __future__ import annotations

from typing import Any

from vocablo.base.errors import ConfigError, DataError
from vocablo.text.templates import Frame


def check(model: Any, *, vocab: int, context: int, frame: Frame, words: bool, pooled: bool) -> None:
    """Raise for a family that reads otherwise, and for a model too small for the tokenizer, the context or the frame.

    ``words``: the loss asks for words, so an output layer is needed; ``pooled``: it asks for a pooler.
    """
    if model.reads != "both":
        raise ConfigError(
            f"This pretext needs a model that reads both ways, as BERT does; this one reads {model.reads!r}."
        )
    if model.context is not None and context > model.context:
        raise ConfigError(f"context is {context}, and the model reads at most {model.context} tokens.")
    if vocab > model.vocab:
        raise DataError(
            f"The tokenizer has {vocab} tokens and the model a vocabulary of {model.vocab}: they don't belong together."
        )
    known = getattr(model.config.embed, "segments", 0)
    if 0 < known < frame.segment_count:
        raise ConfigError(
            f"The tokenizer tells {frame.segment_count} segments apart and the model knows {known}: set "
            f"model.embed.segments={frame.segment_count}."
        )
    if getattr(model.config, "chars", None) is not None:
        raise ConfigError("Words are read by their letters in finetune, not in pretrain: leave model.chars out.")
    if words and model.config.head is None:
        raise ConfigError("The model has no output layer over the vocabulary, so it can't be trained to tell words.")
    if pooled and not getattr(model.config, "pooler", False):
        raise ConfigError(
            "Telling pairs of sentences apart needs a model with a pooler: set model.pooler=true, or, of a model that is trained "
            "further and has none, train on masked tokens alone with pretext.name=masked."
        )
