"""Pairs of sentences made by rules: the same for a seed, agreeing, and in their two orders."""

import csv
import io

import pytest

from vocablo.base.errors import ConfigError
from vocablo.data import sentence_pairs


def test_a_pair_of_a_seed_is_always_the_same_and_others_differ():
    first, more = list(sentence_pairs.pairs(20, 3)), list(sentence_pairs.pairs(50, 3))
    assert more[:20] == first
    assert list(sentence_pairs.pairs(20, 4)) != first
    assert len({pair.es for pair in more}) > 40


def test_articles_and_adjectives_agree_and_change_places():
    feminine = {
        line.split()[0] for line in (sentence_pairs.BEINGS + "|" + sentence_pairs.THINGS).split("|") if " f " in line
    }
    moved = 0
    for pair in sentence_pairs.pairs(300):
        words, english = pair.es.split(), pair.en.split()
        for at, word in enumerate(words[:-1]):
            if word in ("el", "un"):
                assert words[at + 1] not in feminine
            if word in ("la", "una"):
                assert words[at + 1] in feminine
                if words[at + 2].endswith("o") and words[at + 2] not in ("pero",):
                    pytest.fail(f"{words[at + 1]} {words[at + 2]}")
        for at, word in enumerate(english[:-1]):
            if word in ("a", "an"):
                assert (word == "an") == (english[at + 1][0] in "aeiou")
        if words[1] == "gato" and words[2] == "negro":
            assert english[1:3] == ["black", "cat"]
            moved += 1
        assert words[-1] == english[-1] == "."
        assert words.count("y") == english.count("and")
    assert moved


def test_they_are_written_as_a_table_with_the_names_of_the_languages(tmp_path):
    made = list(sentence_pairs.pairs(5))
    sentence_pairs.write(tmp_path / "pairs.csv", made)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pairs.csv").read_text(encoding="utf-8"))))
    assert [(row["es"], row["en"]) for row in rows] == [(pair.es, pair.en) for pair in made]
    with pytest.raises(ConfigError, match=r"written as \.csv"):
        sentence_pairs.write(tmp_path / "pairs.txt", made)
