"""What the command line needs before a command runs: options with many values, and the model to ask."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vocablo.base.errors import ConfigError

MANY = (
    "--text",
    "--among",
    "--validation-text",
    "--weight-text",
    "--seeds",
    "--stop",
    "--choice-columns",
    "--choices",
)  # options that take values until the next option
OF_COMPARE = ("--train", "--held-out")  # of this command alone; elsewhere --train is one file
OVERRIDE = re.compile(r"^[a-z_]+(\.[a-z_]+)*=")
DEMO_MODEL = Path("demo/transformer")


def spread(arguments: Sequence[str]) -> list[str]:
    """``--among gato perro silla`` -> ``--among gato --among perro --among silla``, as a shell's globs give them.

    Values end at the next option or at a ``section.key=value`` override.
    """
    many = MANY + OF_COMPARE if arguments[:1] == ["compare"] else MANY
    result: list[str] = []
    option, given = None, 0
    for index, argument in enumerate(arguments):
        if argument == "--":
            return result + list(arguments[index:])
        if argument.startswith("-") and argument != "-":
            option, given = (argument, 0) if argument in many else (None, 0)
            result.append(argument)
        elif option and OVERRIDE.match(argument) and not Path(argument).exists():
            option = None
            result.append(argument)
        elif option:
            result += [argument] if given == 0 else [option, argument]
            given += 1
        else:
            result.append(argument)
    return result


def model_path(given: str | None) -> str:
    """The model a command asks: ``--model``, else $VOCABLO_MODEL, else the demo's Transformer when it is there."""
    if given:
        return given
    if os.environ.get("VOCABLO_MODEL"):
        return os.environ["VOCABLO_MODEL"]
    if DEMO_MODEL.exists():
        return str(DEMO_MODEL)
    raise ConfigError(
        "Which model? Give --model FOLDER (or set VOCABLO_MODEL). `vocablo demo` makes one in demo/transformer, "
        "`vocablo pretrain` makes one from your own text."
    )


def fitting(
    verb: Callable[..., Any], given: dict[str, Any], options: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The options that were given (not None). Raises ConfigError for one that this model's verb doesn't have.

    ``options``: how those are written that aren't named as the verb's arguments are.
    """
    written = {name: (options or {}).get(name, f"--{name.replace('_', '-')}") for name in given}
    chosen = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(verb).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for name in chosen:
        if name not in known and not free:
            taken = ", ".join(written[one] for one in given if one in known) or "none"
            raise ConfigError(
                f"{written[name]} isn't for this kind of model: of these options its {verb.__name__.split('_')[0]} takes {taken}."
            )
    return chosen
