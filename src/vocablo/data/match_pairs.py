"""News of football matches in Spanish with their English, made by rules: the lecture's sentence is one of them.

*River ganó y sumó 3 puntos que lo dejan en la punta del campeonato* is *River won and added 3 points that leave it at the top of
the championship*. Not all words come in the same order, and not each has one of its own: *el equipo rojo no ganó* is *the red
team did not win*. Pair i of a seed is always the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from numpy.random import Generator

from vocablo.base.random import generator
from vocablo.data.sentence_pairs import Pair

TEAMS = "River Boca Racing Independiente Vélez Lanús Talleres Belgrano Colón Estudiantes".split()  # noqa: SIM905
COLOURS = "rojo red|blanco white|azul blue|verde green|joven young|nuevo new"
RESULTS = "ganó won win|perdió lost lose|empató drew draw|jugó played play|mejoró improved improve"
GAINS = "sumó added|consiguió earned|dejó left|contó counted"
COUNTED = "puntos points|goles goals|triunfos victories|partidos matches"
PLACES = "punta top|mitad middle|parte part|final end"
RACES = "campeonato championship|torneo tournament|grupo group|año year"
DAYS = "domingo Sunday|sábado Saturday|lunes Monday|viernes Friday"
COLOUR, NOT, DAY, RIVAL, GAIN, LEAVES = 0.3, 0.2, 0.25, 0.25, 0.75, 0.5  # how often there is each


def pairs(count: int, seed: int = 0) -> Iterator[Pair]:
    """The first ``count`` pairs of a seed."""
    for number in range(count):
        yield pair(generator(seed, "match", number))


def pair(rng: Generator) -> Pair:
    """One pair drawn from ``rng``."""
    es, en = _team(rng)
    result, past, base = _drawn(rng, RESULTS)
    if rng.random() < NOT:
        es, en = f"{es} no {result}", f"{en} did not {base}"
    else:
        es, en = f"{es} {result}", f"{en} {past}"
    if rng.random() < RIVAL:
        other = _team(rng)
        es, en = f"{es} ante {other[0]}", f"{en} against {other[1]}"
    if rng.random() < DAY:
        day, english = _drawn(rng, DAYS)
        es, en = f"{es} el {day}", f"{en} on {english}"
    if rng.random() < GAIN:
        gained, counted, number = _drawn(rng, GAINS), _drawn(rng, COUNTED), rng.integers(2, 10)
        es, en = f"{es} y {gained[0]} {number} {counted[0]}", f"{en} and {gained[1]} {number} {counted[1]}"
        if rng.random() < LEAVES:
            place, race = _drawn(rng, PLACES), _drawn(rng, RACES)
            es, en = (
                f"{es} que lo dejan en la {place[0]} del {race[0]}",
                f"{en} that leave it at the {place[1]} of the {race[1]}",
            )
    return Pair(es, en)


def _team(rng: Generator) -> tuple[str, str]:
    if rng.random() < COLOUR:
        es, en = _drawn(rng, COLOURS)
        return f"el equipo {es}", f"the {en} team"
    name = TEAMS[rng.integers(len(TEAMS))]
    return name, name


def _drawn(rng: Generator, table: str) -> list[str]:
    """One of a table's entries, in its parts."""
    entries = table.split("|")
    return entries[rng.integers(len(entries))].split()
