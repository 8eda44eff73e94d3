"""What every model that can be asked has in common: its public methods are its verbs, and it knows which it has."""

from __future__ import annotations

import importlib
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.text.tokenizer import Tokenizer

WAYS = (
    "left_model",
    "encoder",
    "finetuned",
    "two_way",
    "words",
    "writing",
)  # the files of this room whose classes can be asked


class MissingVerb(ConfigError, AttributeError):
    """A verb that other models have; an AttributeError too, so that ``hasattr`` says the truth."""


class Asked:
    """A model with its tokenizer. Subclasses, one for each way of reading, have the verbs as their public methods."""

    what = "a model"
    also: tuple[str, ...] = ()  # methods that are another form of a verb, beside those named VERB_SOMETHING

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @property
    def verbs(self) -> tuple[str, ...]:
        """What this model can be asked; another form of one (``score_files`` of ``score``) isn't told apart."""
        names = [name for name in _methods(type(self)) if name not in self._lacking()]
        return tuple(name for name in names if name.rpartition("_")[0] not in names and name not in self.also)

    def _lacking(self) -> dict[str, str]:
        """Verbs of the class that this very model can't do -> what it would need, in words."""
        return {}

    def _need(self, verb: str) -> None:
        """Raise MissingVerb when this model lacks what a verb of its class needs."""
        if (reason := self._lacking().get(verb)) is not None:
            raise MissingVerb(f"{verb} needs {reason}: the verbs of this model are {', '.join(self.verbs)}.")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and any(name in _methods(kind) for kind in _kinds()):
            raise MissingVerb(f"{name} asked of {self.what}: its verbs are {', '.join(self.verbs)}.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _kinds() -> list[type]:
    """All that can be asked, whatever of it has been imported by now."""
    for file in WAYS:
        importlib.import_module(f"{__package__}.{file}")
    return Asked.__subclasses__()


def _methods(kind: type) -> list[str]:
    return [name for name, member in vars(kind).items() if callable(member) and not name.startswith("_")]
