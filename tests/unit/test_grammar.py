"""The embedded grammar: it's a distribution, it knows it exactly, and it's Spanish."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pytest

from vocablo.base.errors import DataError
from vocablo.data.grammar import END, Grammar, render, split
from vocablo.data.grammar_rules import Productions
from vocablo.data.spanish import adjective, conjugate, contract, genders, participle, plural


@pytest.fixture(scope="module")
def grammar():
    return Grammar()


@pytest.fixture(scope="module")
def lines(grammar):
    return list(grammar.text(seed=7, sentences=3000))


def test_is_made_cheaply():
    started = time.process_time()
    Grammar()
    assert time.process_time() - started < 0.5


def test_has_a_rich_vocabulary(grammar, lines):
    assert 1000 <= grammar.size <= 1700
    assert grammar.words == tuple(sorted(set(grammar.words)))
    assert END not in grammar.words
    assert {word for line in lines for word in split(line)} <= set(grammar.words)


def test_cheese_has_the_lectures_probabilities(grammar):
    after = grammar.next_word(["Voy", "a", "guardar", "el", "queso", "en", "el"])
    for word, prob in (
        ("refrigerador", 0.5),
        ("freezer", 0.3),
        ("heladera", 0.1),
        ("horno", 0.05),
        ("termotanque", 0.0001),
        ("Callao", 1e-9),
    ):
        assert after[word] == pytest.approx(prob, rel=1e-12)
    assert sum(after.values()) == pytest.approx(1, abs=1e-12)


def test_the_cat_comes_before_the_dog_and_the_chair_last(grammar):
    after = grammar.next_word(
        ["Cuando", "llegue", "a", "casa", "me", "tengo", "que", "acordar", "de", "darle", "de", "comer", "al"]
    )
    assert after["gato"] == pytest.approx(0.5, rel=1e-12)
    assert after["perro"] == pytest.approx(0.35, rel=1e-12)
    assert 0 < after["silla"] == min(after.values()) < 1e-5


@pytest.mark.parametrize(
    "text",
    [
        "Voy a guardar el queso en el refrigerador para conservarlo fresco.",
        "Cuando llegue a casa me tengo que acordar de darle de comer al gato.",
        "Saqué dinero del banco.",
        "Me siento en el banco.",
        "El hotel está buenísimo.",
        "River ganó y sumó 3 puntos que lo dejan en la punta del campeonato.",
        "Juan golpeó a Pedro.",
        "Pedro golpeó a Juan.",
    ],
)
def test_the_lectures_sentences_are_in_the_language(grammar, text):
    assert -40 < grammar.log_prob(split(text)) < 0


def test_next_word_is_a_distribution_at_every_step(grammar, lines):
    for line in lines[:40]:
        words = split(line)
        for at in range(len(words) + 1):
            after = grammar.next_word(words[:at])
            assert sum(after.values()) == pytest.approx(1, abs=1e-12)
            assert set(after) <= {*grammar.words, END}


def test_log_prob_is_the_chain_of_next_words(grammar, lines):
    for line in lines[:25]:
        words = split(line)
        chain = [grammar.next_word(words[:at])[word] for at, word in enumerate([*words, END])]
        assert grammar.word_log_probs(words) == pytest.approx(np.log(chain), abs=1e-10)
        assert grammar.log_prob(words) == pytest.approx(sum(map(math.log, chain)), abs=1e-9)


def test_next_matrix_has_the_same_rows(grammar, lines):
    words = split(lines[0])
    matrix = grammar.next_matrix(words)
    assert matrix.shape == (len(words) + 1, grammar.size + 1)
    assert matrix.sum(1) == pytest.approx(1, abs=1e-12)
    after = grammar.next_word(words[:3])
    assert {grammar.words[i] for i in matrix[3, :-1].nonzero()[0]} == set(after) - {END}


def test_text_is_a_pure_function_of_seed_and_index(grammar, lines):
    other = Grammar()
    assert render(other.sentence(7, 1234)) == lines[1234]
    assert list(other.text(7, 20)) == lines[:20]
    assert list(other.text(8, 20)) != lines[:20]
    assert list(other.generate(7, words=100)) == lines[: len(list(other.generate(7, words=100)))]


def test_render_and_split_are_inverse(grammar):
    for index in range(10_000):
        words = grammar.sentence(3, index)
        assert split(render(words)) == words


def test_spelling(lines):
    for line in lines:
        assert "  " not in line
        assert line == line.strip()
        assert line[-1] in ".?!"
        assert line.startswith("¿") == line.endswith("?")
        assert line.startswith("¡") == line.endswith("!")
        assert line.lstrip("¿¡")[0].isupper()
        assert not re.search(r"\b(de|a) el\b", line), line
        assert not re.search(r"[^\w\s]\s*[^\w\s]", line), f"two marks in a row: {line}"


def test_foreign_text_is_refused_where_it_leaves_the_language(grammar):
    with pytest.raises(DataError, match=r"word 3, 'zanahorias'"):
        grammar.next_word(["El", "hotel", "zanahorias"])
    with pytest.raises(DataError):
        grammar.log_prob(["El", END])
    assert grammar.log_prob(["El", "hotel"]) == -math.inf


def test_agreement_pairs_are_minimal_and_certain(grammar):
    items = grammar.agreement(seed=0, n=400)
    assert len(items) == 400
    assert items == grammar.agreement(seed=0, n=400)
    for item in items:
        after = grammar.next_word(item.prefix)
        assert after[item.right] > 0
        assert item.wrong not in after
        assert 1 <= item.distance <= len(item.prefix)
    assert max(item.distance for item in items) >= 8
    assert {item.feature for item in items} == {"number", "gender"}
    assert any(item.attractors for item in items)


def test_text_or_words(grammar):
    assert grammar.log_prob("El hotel está buenísimo.") == grammar.log_prob(["El", "hotel", "está", "buenísimo", "."])


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        ("torta", "tortas"),
        ("canción", "canciones"),
        ("eficaz", "eficaces"),
        ("feligrés", "feligreses"),
        ("virus:virus", "virus"),
        ("café", "cafés"),
        ("vals", "valses"),
        ("profesor", "profesores"),
    ],
)
def test_plurals(singular, expected):
    assert plural(singular) == expected


def test_third_persons():
    assert conjugate("probar~ue")["pres", "pl"] == "prueban"
    assert conjugate("probar~ue")["pret", "sg"] == "probó"
    assert conjugate("servir~i")["pret", "pl"] == "sirvieron"
    assert conjugate("corregir~i")["impf", "sg"] == "corregía"
    assert conjugate("leer!leyó,leyeron=leído")["pret", "sg"] == "leyó"
    assert conjugate("leer!leyó,leyeron=leído")["fut", "pl"] == "van_a_leer"
    assert [participle(verb) for verb in ("cortar", "servir~i", "romper=roto")] == ["cortado", "servido", "roto"]


def test_genders_and_contractions():
    assert genders("capitán/capitana") == {"m": "capitán", "f": "capitana"}
    assert genders("doctor/a")["f"] == "doctora"
    assert genders("cura/-") == {"m": "cura"}
    assert adjective("joven:jóvenes")["f", "pl"] == "jóvenes"
    assert [contract(word, "el bar") for word in ("de", "a", "en")] == ["del bar", "al bar", "en el bar"]


def notation(**rules):
    features = {"number": {"sg": 3.0, "pl": 1.0}}
    lexicon = {("dog", "sg"): [("perro",)], ("dog", "pl"): [("perros",)], ("rare", "pl"): [("tijeras",)]}
    return Productions(features, {name.replace("_", " "): body for name, body in rules.items()}, lexicon)


def test_a_variable_is_chosen_once_and_by_its_weights():
    found = notation(top="<dog number> y <dog number>")["top",]
    assert found == [(0.75, (("dog", "sg"), "y", ("dog", "sg"))), (0.25, (("dog", "pl"), "y", ("dog", "pl")))]


def test_groups_share_the_variables_of_their_alternative():
    rules = notation(top_number="<dog number> ( 3: <dog number> | - ) <dog number2>")
    (weight, (_, group, _)), *_ = rules["top", "pl"]
    assert weight == 0.75
    assert rules[group] == [(0.75, (("dog", "pl"),)), (0.25, ())]


def test_features_without_a_word_leave_their_share_to_the_others():
    assert notation(top="<rare number>")["top",] == [(1.0, (("rare", "pl"),))]


def test_the_capital_reaches_the_first_word():
    rules = notation(top="^<inner> .", inner="@<dog number>", empty="^( - | perro )")
    (_, (inner, _)), *_ = rules["top",]
    assert [body for _, body in rules[inner]] == [("@", ("^", "dog", "sg")), ("@", ("^", "dog", "pl"))]
    assert rules["^", "dog", "sg"] == [(1.0, ("Perro",))]
    with pytest.raises(ValueError, match="may be empty"):
        rules["empty",]


@pytest.mark.parametrize("body", ["( perro", "perro )", "<nothing>"])
def test_faults_of_the_notation_are_found(body):
    with pytest.raises(ValueError, match=r"parenthesis|no rule or table"):
        notation(top=body)["top",]
