"""Little reviews of hotels in Spanish, each with the label that its words add up to: what a classifier can be shown on.

A review has one to three opinions among up to three facts that say nothing. An opinion weighs what its adjective does
(*buenísimo* +2, *bueno* +1, *regular* -1, *pésimo* -2), the other way round after *no*. The sum is never nought, and its sign
is the label: *El hotel está buenísimo. La comida era regular.* is positive. Review i of a seed is always the same.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from numpy.random import Generator

from vocablo.base import files
from vocablo.base.errors import ConfigError
from vocablo.base.random import generator
from vocablo.data.spanish import adjective

LABELS = ("negativo", "positivo")
GENERAL = {
    2: "buenísimo excelente espectacular increíble", 1: "bueno lindo agradable", -1: "malo feo regular flojo",
    -2: "malísimo horrible pésimo espantoso",
}  # fmt: skip
NOUNS = {  # with their gender and number, and adjectives of their own
    "place": ("el hotel m sg|la habitación f sg|el baño m sg|la piscina f sg|las camas f pl|los pasillos m pl",
              {1: "limpio cómodo tranquilo", -1: "sucio ruidoso incómodo"}),
    "food": ("la comida f sg|el desayuno m sg|las medialunas f pl|el café m sg|los postres m pl",
             {1: "rico fresco sabroso", -1: "soso frío grasoso"}),
    "people": ("la atención f sg|el personal m sg|los mozos m pl|las chicas de la recepción f pl",
               {1: "amable atento", -1: "grosero lento"}),
}  # fmt: skip
FACTS = """
Fuimos en enero con los chicos|Nos quedamos tres noches|Está a cinco cuadras de la playa|Reservamos por internet
|Llegamos un martes a la noche|Pagamos con tarjeta|Hay un estacionamiento a la vuelta|La ventana daba al patio
|La entrada es a las dos de la tarde|Viajamos por trabajo|Tiene cuatro pisos y un ascensor|Ya habíamos estado en la ciudad
""".replace("\n", "").split("|")
VERBS = {"sg": ("estaba", "era", "estuvo"), "pl": ("estaban", "eran", "estuvieron")}
NO, VERY, FACT, LOUD = 0.15, 0.25, 0.6, 0.3  # how often: "no", "muy", one fact more, an exclamation


@dataclass(frozen=True, slots=True)
class Review:
    """A review and its label, one of ``LABELS``."""

    text: str
    label: str


def reviews(count: int, seed: int = 0) -> Iterator[Review]:
    """The first ``count`` reviews of a seed; about half of them have either label."""
    for number in range(count):
        yield review(generator(seed, "review", number))


def review(rng: Generator) -> Review:
    """One review drawn from ``rng``."""
    wanted = int(rng.integers(2))
    while True:
        opinions = [_opinion(rng) for _ in range(rng.integers(1, 4))]
        if (total := sum(weight for _, weight in opinions)) and (total > 0) == bool(wanted):
            break
    sentences = [text for text, _ in opinions]
    for fact in rng.permutation(len(FACTS))[: rng.binomial(3, FACT)]:
        sentences.insert(int(rng.integers(len(sentences) + 1)), f"{FACTS[fact]}.")
    return Review(" ".join(sentences), LABELS[wanted])


def polarity() -> dict[str, int]:
    """Every form of every adjective -> what it weighs."""
    found = {}
    for words in (GENERAL, *(own for _, own in NOUNS.values())):
        found |= {
            form: weight for weight, some in words.items() for one in some.split() for form in adjective(one).values()
        }
    return found


def _opinion(rng: Generator) -> tuple[str, int]:
    """A sentence, and what it weighs."""
    nouns, own = NOUNS[str(rng.choice(list(NOUNS)))]
    noun, gender, number = str(rng.choice(nouns.split("|"))).rsplit(" ", 2)
    weight = int(rng.choice([2, 1, -1, -2]))
    lemma = str(rng.choice(f"{GENERAL[weight]} {own.get(weight, '')}".split()))
    mild = abs(weight) == 1
    denied = mild and rng.random() < NO
    words = [noun.capitalize(), *(["no"] if denied else []), str(rng.choice(VERBS[number]))]
    words += ["muy"] if mild and not denied and lemma != "regular" and rng.random() < VERY else []
    sentence = " ".join([*words, adjective(lemma)[gender, number]])
    loud = not mild and rng.random() < LOUD
    return f"¡{sentence}!" if loud else f"{sentence}.", -weight if denied else weight


def table(some: Iterable[Review], suffix: str) -> str:
    """Reviews as the text of a .csv, .tsv or .jsonl file with the columns text and label."""
    rows = [asdict(one) for one in some]
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if suffix not in (".csv", ".tsv"):
        raise ConfigError(
            f"Reviews are written as .csv, .tsv or .jsonl, not as {suffix or 'a file without an ending'}."
        )
    made = io.StringIO()
    writer = csv.DictWriter(made, ("text", "label"), delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def write(path: str | Path, some: Iterable[Review]) -> None:
    """``table`` into a file, whole or not at all."""
    files.write_text(Path(path), table(some, Path(path).suffix))
