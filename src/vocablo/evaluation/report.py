"""What an evaluation gives: measurements that can still be compared with another model's, and the report made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vocablo.base.errors import ConfigError
from vocablo.measures import paired
from vocablo.measures.measurement import Measurement, Score
from vocablo.measures.paired import Paired

Facts = Mapping[str, int | float]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The official measures of one model's predictions, the one that papers give first.

    ``protocol`` says what was measured by which rules, ``facts`` are counts without an interval, ``groups`` the same of
    parts of the examples, by name. ``notes`` are what a reader of the figures must know.
    """

    suite: str
    protocol: str
    measurements: tuple[Measurement, ...]
    facts: Facts = field(default_factory=dict)
    groups: Mapping[str, tuple[tuple[Measurement, ...], Facts]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def report(self, *, seed: int = 0, comparison: tuple[Paired, ...] = ()) -> Report:
        """The record with values and intervals; ``seed`` is that of the resamples."""
        groups = tuple(
            Group(name, tuple(one.score(seed=seed) for one in measurements), dict(facts))
            for name, (measurements, facts) in self.groups.items()
        )
        scores = tuple(one.score(seed=seed) for one in self.measurements)
        return Report(self.suite, self.protocol, scores, dict(self.facts), groups, comparison, self.notes)


@dataclass(frozen=True, slots=True)
class Group:
    """Scores and counts of a part: a type of entity, the questions without an answer."""

    name: str
    scores: tuple[Score, ...]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Report:
    """Scores with their counts and intervals, and (``comparison``) the paired tests against other predictions."""

    suite: str
    protocol: str
    scores: tuple[Score, ...]
    facts: Facts
    groups: tuple[Group, ...] = ()
    comparison: tuple[Paired, ...] = ()
    notes: tuple[str, ...] = ()


def compare(first: Evaluation, second: Evaluation, test: str = "bootstrap", *, seed: int = 0) -> tuple[Paired, ...]:
    """The paired test of each measure of two models' predictions of the same examples.

    McNemar's is of the measures that are shares of right examples; ConfigError where there is none.
    """
    pairs = zip(first.measurements, second.measurements, strict=True)
    results = tuple(
        paired.compare(one, other, test, seed=seed) for one, other in pairs if test != "mcnemar" or one.right
    )
    if not results:
        raise ConfigError(f"McNemar's test needs answers that are right or wrong, and {first.protocol} has none.")
    return results
