"""The words of the embedded grammar: ``grammar_es.toml``'s lists, inflected into tables keyed by features.

``tables[("thing", "mar", "a", "f", "pl")]`` is the list of phrases (tuples of words) that may stand there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vocablo.data.spanish import adjective, conjugate, contract, genders, infinitive, numbers, participle

_CELLS = (("m", "sg"), ("f", "sg"), ("m", "pl"), ("f", "pl"))
_DETERMINERS = {"el": ("m", "sg"), "la": ("f", "sg"), "los": ("m", "pl"), "las": ("f", "pl")}

Paradigm = Mapping[tuple[str, ...], str]


class Lexicon:
    """Inflects the lists. ``raw`` is the parsed TOML file; its sections are described there."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.tables: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        self.flips: dict[str, dict[tuple[str, str], None]] = {}
        self._nouns: dict[str, dict[str, set[str]]] = {}
        for topic, entry in raw["topics"].items():
            self._topic(topic, entry)
        for name, entry in raw["nouns"].items():
            for gender, lemmas in entry.items():
                self._noun((name,), gender, lemmas)
        for name, lemmas in raw["adjectives"].items():
            for lemma in lemmas.split():
                self._adjective(tuple(name.split()), lemma)
        for name, rows in raw["forms"].items():  # four forms: m sg, f sg, m pl, f pl
            for row in rows:
                self._inflect((name,), dict(zip(_CELLS, row.split(), strict=True)))
        for name, rows in raw["pairs"].items():  # two forms: sg, pl
            for row in rows:
                self._inflect((name,), dict(zip((("sg",), ("pl",)), row.split(), strict=True)))
        for name, rows in raw["tensed"].items():
            for tense, row in rows.items():
                self._inflect((name, tense), dict(zip((("sg",), ("pl",)), row.split(), strict=True)))
        for name, entry in raw["by"].items():
            for value, phrases in entry.items():
                for phrase in phrases:
                    self._put((name, value), phrase)
        for name, phrases in raw["phrases"].items():
            for phrase in phrases:
                self._phrase((name,), phrase)

    def noun_features(self, word: str, feature: str) -> set[str]:
        """The values of ``"gender"`` or ``"number"`` that a noun form may have; empty for what isn't a noun."""
        return self._nouns.get(word, {}).get(feature, set())

    def _topic(self, topic: str, entry: Mapping[str, Any]) -> None:
        for lemma in entry["people"].split():
            for gender, form in genders(lemma).items():
                self._noun(("person", topic), gender, form)
        for phrase in entry["places"]:
            self._phrase(("place", topic), phrase)
        for kind in ("a", "b"):
            words = entry[kind]
            for gender in ("m", "f"):
                self._noun(("thing", topic, kind), gender, words[gender])
            for lemma in words["adjectives"].split():
                self._adjective(("adj", topic, kind), lemma)
            verbs = words["verbs"].split()
            for verb in verbs:
                self._put(("inf", topic, kind), infinitive(verb))
                self._inflect(("verb", topic, kind), conjugate(verb))
                self._inflect(("finish" if verb == verbs[-1] else "begin", topic, kind), conjugate(verb))
                if kind == "a":  # what the passive is made of
                    self._adjective(("part", topic), participle(verb))

    def _put(self, key: tuple[str, ...], phrase: str) -> None:
        self.tables.setdefault(key, []).append(tuple(phrase.replace("_", " ").split()))

    def _noun(self, key: tuple[str, ...], gender: str, lemmas: str) -> None:
        for lemma in lemmas.split():
            for number, form in numbers(lemma).items():
                self._put((*key, gender, number), form)
                self._know(form, gender, number)

    def _know(self, form: str, gender: str, number: str) -> None:
        known = self._nouns.setdefault(form, {"gender": set(), "number": set()})
        known["gender"].add(gender)
        known["number"].add(number)

    def _phrase(self, key: tuple[str, ...], phrase: str) -> None:
        """A noun phrase with its article, and ``de_``/``a_`` tables with the contractions *del* and *al*."""
        self._put(key, phrase)
        for preposition in ("de", "a"):
            self._put((f"{preposition}_{key[0]}", *key[1:]), contract(preposition, phrase))
        first, _, rest = phrase.partition(" ")
        noun = rest.partition(" ")[0]
        if first in _DETERMINERS:
            self._know(noun, *_DETERMINERS[first])
        elif first in ("mi", "mis"):
            self._know(noun, "f" if noun.rstrip("s").endswith("a") else "m", "pl" if first == "mis" else "sg")

    def _adjective(self, key: tuple[str, ...], lemma: str) -> None:
        self._inflect(key, adjective(lemma))

    def _inflect(self, key: tuple[str, ...], paradigm: Paradigm) -> None:
        for features, form in paradigm.items():
            self._put((*key, *features), form)
        for features, form in paradigm.items():
            for feature, other in _flipped(features):
                if other in paradigm and paradigm[other] != form and "_" not in form:
                    self.flips.setdefault(form, {})[(feature, paradigm[other])] = None


def _flipped(features: tuple[str, ...]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The neighbours of a paradigm's cell in number and in gender."""
    swap = {"sg": ("number", "pl"), "pl": ("number", "sg"), "m": ("gender", "f"), "f": ("gender", "m")}
    for i, value in enumerate(features):
        if value in swap:
            feature, other = swap[value]
            yield feature, (*features[:i], other, *features[i + 1 :])
