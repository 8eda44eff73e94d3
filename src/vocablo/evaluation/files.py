"""Evaluation of files of predictions, by whatever program they were made: read, checked, measured, compared.

A suite is a file of ``suites/`` with ``Options``, ``read_gold(path, options)``, ``read_predictions(path, gold, options)`` and
``evaluate(gold, predictions, options)``; the last takes what is in memory, so a model's predictions are measured by it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocablo.base import config, registry
from vocablo.base.errors import ConfigError, nearest
from vocablo.evaluation.report import Report, compare
from vocablo.measures.paired import TESTS

PACKAGE = "vocablo.evaluation.suites"


def suites() -> tuple[str, ...]:
    """The names of the suites."""
    return registry.names(PACKAGE)


def evaluate(
    suite: str,
    predictions: str | Path,
    gold: str | Path | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    against: str | Path | None = None,
    test: str = "bootstrap",
    seed: int = 0,
) -> Report:
    """The official measures of a file of predictions, and the paired test against a second one (``against``).

    ``options`` are the suite's (``task`` of glue, ``language`` of squad, ``mode`` of ner). Without ``gold``, which ner and
    pos allow, the predictions' file has the true tags in its last column but one.
    Raises ConfigError for an unknown suite, option or test, DataError for files that can't be read or don't belong together.
    """
    if suite not in suites():
        raise ConfigError(f"There is no suite {suite!r}{nearest(suite, suites())}")
    if test not in TESTS:
        raise ConfigError(f"There is no paired test {test!r}{nearest(test, TESTS)}")
    room = registry.load(PACKAGE, suite)
    settings = config.build(room.Options, options or {}, suite)
    if gold is None:
        if not registry.constant(PACKAGE, suite, "TOGETHER") or ".conllu" in Path(predictions).name:
            raise ConfigError(f"What are the true answers? {suite} needs its gold file: --gold FILE.")
        gold, settings = predictions, settings.model_copy(update={"column": -2})
    true = room.read_gold(Path(gold), settings)
    first = room.evaluate(true, room.read_predictions(Path(predictions), true, settings), settings)
    if against is None:
        return first.report(seed=seed)
    second = room.evaluate(true, room.read_predictions(Path(against), true, settings), settings)
    return first.report(seed=seed, comparison=compare(first, second, test, seed=seed))
