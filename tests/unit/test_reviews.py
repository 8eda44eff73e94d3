"""Reviews of hotels: their words add up to their label, and review i of a seed is always the same."""

import re
from itertools import islice

import pytest

from vocablo.base.errors import ConfigError
from vocablo.data import reviews, tables


def test_the_words_of_a_review_add_up_to_its_label():
    weights = reviews.polarity()
    mixed = 0
    for one in reviews.reviews(400, seed=3):
        total, signs = 0, set()
        for sentence in re.split(r"[.!] ?", one.text):
            told = [weights[word] for word in sentence.split() if word in weights]
            assert len(told) <= 1, sentence
            value = sum(told) * (-1 if " no " in sentence else 1)
            total += value
            signs |= {value > 0} if value else set()
        assert total != 0
        assert one.label == reviews.LABELS[total > 0]
        mixed += len(signs) == 2
    assert mixed > 20, "some have words of both kinds"


def test_a_longer_set_begins_with_a_shorter_one_and_seeds_differ():
    some = list(reviews.reviews(30))
    assert list(islice(reviews.reviews(60), 30)) == some
    assert list(reviews.reviews(30, seed=1)) != some
    assert 5 < sum(one.label == "positivo" for one in some) < 25


def test_forms_agree_with_their_nouns():
    for one in reviews.reviews(300):
        for noun, form in re.findall(r"(La comida|Los postres) \w+ (?:muy )?(\w+)", one.text):
            endings = ("s",) if noun == "Los postres" else ("a", "e", "r")
            assert form in reviews.polarity() or form.startswith(("muy", "est", "er"))
            if form in reviews.polarity():
                assert form.endswith(endings), (noun, form)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    some = list(reviews.reviews(8))
    reviews.write(tmp_path / f"reviews{suffix}", some)
    found = tables.read_texts(tmp_path / f"reviews{suffix}", tables.Columns("text", None, "label", None), kind="class")
    assert [(one.text, one.label) for one in found] == [(one.text, one.label) for one in some]
    with pytest.raises(ConfigError, match=r"\.csv"):
        reviews.write(tmp_path / "reviews.pdf", some)
