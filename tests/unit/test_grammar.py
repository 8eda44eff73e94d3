"""The embedded grammar: it's a distribution, it knows it exactly, and it's Spanish."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pytest

from vocablo.base.errors import DataError
from vocablo.data.grammar import END, Grammar, render, split


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
