"""Words and phrases as the token sequences that decoding's constraints speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.decoding.settings import within
from vocablo.text.tokenizer import Tokenizer


def spellings(tokenizer: Tokenizer, text: str) -> tuple[tuple[int, ...], ...]:
    """The token sequences of a phrase: at the start of a text, and after a space where that is another one.

    Raises ConfigError for a phrase that is empty or has a word that the vocabulary lacks.
    """
    if not text.strip():
        raise ConfigError("A word that a text must or may not have can't be empty.")
    found: list[tuple[int, ...]] = []
    for spelled in (text.strip(), " " + text.strip()):
        ids = tuple(tokenizer.encode(spelled).ids)
        if tokenizer.unk_id in ids:
            raise ConfigError(f"The vocabulary lacks a part of {text!r}: no text of this model can have it.")
        if ids and not any(within(known, ids) for known in found):
            found.append(ids)
    return tuple(found)


def as_tokens(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the texts among ``include``, ``exclude`` and ``prefix`` as token ids.

    An entry of ``include`` is a phrase, or a list of phrases of which one is enough. Raises ConfigError for a phrase that
    is asked for and ruled out, or that the vocabulary lacks.
    """
    done = dict(settings)
    include = [entry if not isinstance(entry, str) else [entry] for entry in settings.get("include", ())]
    if include and all(isinstance(phrase, str) for group in include for phrase in group):
        done["include"] = tuple(tuple(ids for text in group for ids in spellings(tokenizer, text)) for group in include)
    exclude: Sequence[Any] = settings.get("exclude", ())
    if both := next((group for group in include if group and all(phrase in exclude for phrase in group)), None):
        raise ConfigError(
            f"{both[0]!r} is asked for (include, --must) and ruled out (exclude, --ban): leave one of them out."
        )
    if exclude and all(isinstance(phrase, str) for phrase in exclude):
        done["exclude"] = tuple(ids for text in exclude for ids in spellings(tokenizer, text))
    if isinstance(settings.get("prefix"), str):
        done["prefix"] = tuple(tokenizer.encode(settings["prefix"]).ids)
        if tokenizer.unk_id in done["prefix"]:
            raise ConfigError(
                f"The vocabulary lacks a part of {settings['prefix']!r}: no text of this model can begin with it."
            )
    return done
