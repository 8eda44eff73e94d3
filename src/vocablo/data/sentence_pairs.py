"""Little sentences in Spanish with their English, made by rules: what a translator can be shown on.

A sentence has one to three clauses of a subject, a verb and an object, joined by *y* or *pero*. Adjectives stand behind their
noun in Spanish and agree with it, and before it in English, so words don't come in the same order: *la niña cansada busca un
gato negro* is *the tired girl looks for a black cat*. Pair i of a seed is always the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator

from vocablo.base import files
from vocablo.base.errors import ConfigError
from vocablo.base.random import generator
from vocablo.data.spanish import adjective

# Spanish word, gender, English word
BEINGS = (
    "perro m dog|gato m cat|niño m boy|niña f girl|abuela f grandmother|abuelo m grandfather|vecino m neighbour|vecina f neighbour"
    "|maestra f teacher|caballo m horse|pájaro m bird|vaca f cow"
)
THINGS = "pan m bread|queso m cheese|manzana f apple|luna f moon|silla f chair|libro m book|carta f letter|barco m boat|flor f flower"
QUALITIES = "blanco white|negro black|pequeño small|viejo old|cansado tired|contento happy|nuevo new|rojo red|amarillo yellow|simpático nice"
VERBS = "mira looks at|busca looks for|quiere wants|lleva carries|encuentra finds|dibuja draws|pierde loses|recuerda remembers"
JOINS = (("y", "and"), ("pero", "but"))
ADJECTIVE, MORE, ALIVE = 0.5, 0.4, 0.4  # how often: an adjective, one clause more, an object that is a living being


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence in both languages, words and marks set apart by spaces."""

    es: str
    en: str


def pairs(count: int, seed: int = 0) -> Iterator[Pair]:
    """The first ``count`` pairs of a seed."""
    for number in range(count):
        yield pair(generator(seed, "pair", number))


def pair(rng: Generator) -> Pair:
    """One pair drawn from ``rng``."""
    es, en = _clause(rng)
    for _ in range(rng.binomial(2, MORE)):
        join, more = JOINS[rng.integers(len(JOINS))], _clause(rng)
        es, en = f"{es} {join[0]} {more[0]}", f"{en} {join[1]} {more[1]}"
    return Pair(f"{es} .", f"{en} .")


def _clause(rng: Generator) -> tuple[str, str]:
    verb_es, verb_en = _drawn(rng, VERBS).split(maxsplit=1)
    subject, thing = _noun(rng, BEINGS), _noun(rng, BEINGS if rng.random() < ALIVE else THINGS)
    return f"{subject[0]} {verb_es} {thing[0]}", f"{subject[1]} {verb_en} {thing[1]}"


def _noun(rng: Generator, nouns: str) -> tuple[str, str]:
    """A noun with its article and, now and then, an adjective."""
    es, gender, en = _drawn(rng, nouns).split()
    definite = rng.random() < 0.6
    article = {"m": ("un", "el"), "f": ("una", "la")}[gender][definite]
    if rng.random() < ADJECTIVE:
        quality, english = _drawn(rng, QUALITIES).split()
        es, en = f"{es} {adjective(quality)[gender, 'sg']}", f"{english} {en}"
    other = "the" if definite else "an" if en[0] in "aeiou" else "a"
    return f"{article} {es}", f"{other} {en}"


def _drawn(rng: Generator, among: str) -> str:
    choices = among.split("|")
    return choices[rng.integers(len(choices))]


def table(made: Iterable[Pair]) -> str:
    """CSV with the columns ``es`` and ``en``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("es", "en"))
    writer.writerows((one.es, one.en) for one in made)
    return out.getvalue()


def write(out: Path, made: Iterable[Pair]) -> None:
    """Into a .csv file. Raises ConfigError for another ending."""
    if out.suffix != ".csv":
        raise ConfigError(f"Pairs of sentences are written as .csv, with the columns es and en; got {out.name!r}.")
    files.write_text(out, table(made))
