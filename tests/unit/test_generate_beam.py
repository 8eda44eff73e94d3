"""``generate`` with a beam, and with rules for the texts that it samples."""

import itertools

import pytest

from tiny_models import TEXTS, counted, gpt, kind, lstm, naive_log_probs, wordpieces
from vocablo.base.errors import ConfigError
from vocablo.inference.generate import GenerateSettings, generate, stream
from vocablo.inference.left_model import LanguageModel
from vocablo.inference.phrases import spellings

MAKERS = {"gpt": lambda t: gpt(t.size, 64), "lstm": lambda t: lstm(t.size), "ngram": counted}


@pytest.fixture(scope="module")
def words():
    return kind("word")


@pytest.fixture(params=sorted(MAKERS))
def asked(request, words):
    return LanguageModel(MAKERS[request.param](words), words)


def test_a_beam_gives_its_best_first_with_the_model_s_own_probabilities(asked, words):
    found = asked.generate("el perro", beam=4, n_best=3, max_tokens=12)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.ids for one in found}) == 3
    before = [words.end_id, *words.encode("el perro").ids]
    for one in found:
        logs = naive_log_probs(asked.model, [*before, *one.ids])[len(before) - 1 :]
        assert one.log_probs == pytest.approx(list(logs), abs=1e-4)
        assert one.score == pytest.approx(sum(logs) / len(logs), abs=1e-4)
        shown = one.ids[:-1] if one.finished_by == "end" else one.ids
        assert (one.prompt + one.text).split() == words.decode([*before[1:], *shown]).split()


def test_a_wider_beam_finds_no_worse_text_than_greedy(words):
    """Not so of every model, since a beam may lose greedy's text; of these seeds it is."""
    for seed in range(5):
        asked = LanguageModel(lstm(words.size, seed=seed), words)
        greedy = asked.generate("la", greedy=True, max_tokens=8)[0]
        wide = asked.generate("la", beam=8, max_tokens=8, length_penalty=0)[0]
        assert wide.log_prob >= greedy.log_prob - 1e-5


def test_words_that_must_or_may_not_come(asked, words):
    for one in asked.generate(
        "el", beam=4, n_best=4, max_tokens=10, include=["piñones", ["queso", "pan ."]], exclude=["la"]
    ):
        text = one.text.split()
        assert "piñones" in text
        assert "queso" in text or _has(one.ids, tuple(words.encode("pan .").ids))
        assert "la" not in text


def test_rules_hold_for_samples_too(asked, words):
    free = asked.generate("la", samples=20, max_tokens=12, seed=1)
    ruled = asked.generate(
        "la", samples=20, max_tokens=12, seed=1, min_tokens=5, no_repeat=2, exclude=["luna", "el gato"]
    )
    assert any(len(one.ids) < 5 or "luna" in one.text for one in free)
    for one in ruled:
        assert len(one.ids) > 5
        assert "luna" not in one.text.split()
        assert "el gato" not in one.text
        whole = words.encode("la").ids + list(one.ids)
        pairs = list(itertools.pairwise(whole))
        assert len(set(pairs)) == len(pairs)
        assert all(log > float("-inf") for log in one.log_probs)


def test_a_prefix_given_as_text_comes_first(asked):
    for changes in ({"greedy": True}, {"beam": 3}, {"seed": 4}):
        (found,) = asked.generate("el", prefix="gato come", max_tokens=6, **changes)
        assert found.text.split()[:2] == ["gato", "come"]


def test_phrases_are_spelled_as_they_are_inside_a_text_and_at_its_start():
    pieces = wordpieces()
    for tokenizer in (pieces, kind("bpe"), kind("word"), kind("unigram")):
        found = spellings(tokenizer, "la luna")
        assert found
        for ids in found:
            assert tokenizer.decode(list(ids)).strip() == "la luna"
        inside = tokenizer.encode(TEXTS[2]).ids
        assert any(_has(inside, ids) for ids in found)


def _has(ids, phrase):
    return any(tuple(ids[at : at + len(phrase)]) == phrase for at in range(len(ids)))


@pytest.mark.parametrize("changes", [{"samples": 2}, {"stop": ("a",)}, {"window": True}, {"temperature": 0.5}])
def test_a_beam_takes_no_settings_of_sampling(asked, changes):
    with pytest.raises(ConfigError, match="beam 3"):
        asked.generate("la", beam=3, **changes)


def test_what_a_model_can_not_be_asked(words):
    model = gpt(words.size, 64)
    with pytest.raises(ConfigError, match="wider than the vocabulary"):
        generate(model, words, "la", GenerateSettings(beam=words.size + 1))
    with pytest.raises(ConfigError, match="streamed"):
        stream(model, words, "la", GenerateSettings(beam=2))
    with pytest.raises(ConfigError, match="lacks"):
        spellings(words, "murciélago")
    with pytest.raises(ConfigError, match="empty"):
        spellings(words, " ")
