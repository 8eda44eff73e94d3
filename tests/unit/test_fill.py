"""What stands behind masks, against the softmax of a single reading, and against every filling of two masks."""

import numpy as np
import pytest
import torch

from tiny_models import bert, kind, wordpieces
from vocablo.api import EncoderModel  # the face knows every kind of model, and so which verbs there are
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Tokens


@pytest.fixture(scope="module")
def asked():
    tokenizer = wordpieces()
    return EncoderModel(bert(tokenizer.size), tokenizer)


def log_probs(asked, ids, place):
    """log p [V] at a place of a text's tokens."""
    tokenizer = asked.tokenizer
    with torch.no_grad():
        states = asked.model.forward(Tokens.of([[tokenizer.cls_id, *ids, tokenizer.sep_id]])).states
        return asked.model.logits(states[place + 1 : place + 2])[0].double().log_softmax(0).numpy()


def test_each_mask_has_the_most_probable_tokens_given_the_others(asked):
    text = "el [MASK] come [MASK] ."
    ids = asked.tokenizer.encode(text).ids
    found = asked.fill(text, k=6)
    assert [text[mask.begin :][:6] for mask in found.masks] == ["[MASK]", "[MASK]"]
    for mask, place in zip(found.masks, (1, 3), strict=True):
        expected = log_probs(asked, ids, place)
        best = np.argsort(-expected)[:6]
        assert [one.tokens for one in mask.candidates] == [(asked.tokenizer.vocabulary[token],) for token in best]
        np.testing.assert_allclose([one.log_prob for one in mask.candidates], expected[best], atol=1e-5)
        np.testing.assert_allclose([one.prob for one in mask.candidates], np.exp(expected[best]), atol=1e-5)
        for one in mask.candidates:
            assert one.piece == one.tokens[0].startswith("##")
            assert one.word == one.tokens[0].removeprefix("##")


def test_words_leave_pieces_marks_and_special_tokens_out(asked):
    text = "el [MASK] come"
    every = {one.tokens: one.prob for one in asked.fill(text, k=10**6).masks[0].candidates}
    assert sum(every.values()) == pytest.approx(1, abs=1e-6)
    words = asked.fill(text, k=10**6, words=True).masks[0].candidates
    assert {one.tokens for one in words} == {
        (name,) for (name,) in every if name.isalnum() and name not in ("[MASK]", "[CLS]")
    }
    assert all(one.prob == every[one.tokens] for one in words)


def test_masks_together_are_filled_from_left_to_right(asked):
    """A beam as wide as the vocabulary sees every filling."""
    tokenizer = asked.tokenizer
    # Doubles: beams of other widths read batches of other sizes, which round single precision differently.
    asked = EncoderModel(bert(tokenizer.size).double(), tokenizer)
    text = "el [MASK] come [MASK]"
    ids = tokenizer.encode(text).ids
    first = log_probs(asked, ids, 1)
    totals = {}
    for token in range(tokenizer.size):
        second = log_probs(asked, [ids[0], token, *ids[2:]], 3)
        totals |= {(token, other): first[token] + second[other] for other in range(tokenizer.size)}
    best = sorted(totals, key=totals.get, reverse=True)[:3]
    joint = asked.fill(text, k=tokenizer.size).joint[:3]
    assert [one.tokens for one in joint] == [tuple(tokenizer.vocabulary[token] for token in pair) for pair in best]
    np.testing.assert_allclose([one.log_prob for one in joint], [totals[pair] for pair in best], atol=1e-5)
    narrow = asked.fill(text, k=1).joint[0]
    assert narrow.tokens[0] == tokenizer.vocabulary[int(first.argmax())]
    assert narrow.log_prob <= joint[0].log_prob + 1e-9
    assert asked.fill("el [MASK]").joint == ()


def test_the_text_around_masks_stays_as_it_was_written():
    tokenizer = kind("wordpiece")
    asked = EncoderModel(bert(tokenizer.size, seed=1), tokenizer)
    for one in asked.fill("¡El  [MASK],   come [MASK]!", k=4, words=True).joint:
        assert one.text == f"¡El  {one.tokens[0]},   come {one.tokens[1]}!"


def test_a_piece_is_written_behind_its_word(asked):
    found = asked.fill("el gat [MASK] y [MASK]", k=64).joint
    pieces = [one for one in found if one.tokens[0].startswith("##") and not one.tokens[1].startswith("##")]
    assert pieces
    for one in pieces:
        assert one.text == f"el gat{one.tokens[0][2:]} y {one.tokens[1]}"


def test_candidates_of_several_pieces_are_spelled_behind_as_many_masks(asked):
    tokenizer, text = asked.tokenizer, "el [MASK] come pan"
    names = ["gato", "piñones", "luna"]
    found = asked.fill(text, among=names).masks[0]
    assert found.begin == 3
    assert {len(one.tokens) for one in found.candidates} == {1, 2, 5}
    assert sorted(one.word for one in found.candidates) == sorted(names)
    for one in found.candidates:
        own = tokenizer.encode(one.word).ids
        before, after = tokenizer.encode("el").ids, tokenizer.encode("come pan").ids
        total = 0.0
        for place in range(len(own)):
            masks = [tokenizer.mask_id] * (len(own) - place)
            total += log_probs(asked, [*before, *own[:place], *masks, *after], 1 + place)[own[place]]
        assert one.log_prob == pytest.approx(total, abs=1e-5)
    scores = [one.log_prob for one in found.candidates]
    assert scores == sorted(scores, reverse=True)


def test_all_fillings_of_as_many_masks_sum_to_one(asked):
    """So the probability of a candidate of two tokens is one: 64 x 64 spellings, from the same steps."""
    tokenizer = asked.tokenizer
    mask = tokenizer.mask_id
    first = np.exp(log_probs(asked, [mask, mask], 0))
    total = sum(first[token] * np.exp(log_probs(asked, [token, mask], 1)).sum() for token in range(tokenizer.size))
    assert total == pytest.approx(1, abs=1e-6)
    one, two = tokenizer.encode("gato").ids
    expected = first[one] * np.exp(log_probs(asked, [one, mask], 1))[two]
    assert asked.fill("[MASK]", among=["gato"]).masks[0].candidates[0].prob == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("el gato come", {}, "no mask in 'el gato come': write \\[MASK\\]"),
        ("el [MASK]", {"k": 0}, "k is at least 1; got 0"),
        ("el [MASK] y [MASK]", {"among": ["pan"]}, "one mask, and this text has 2"),
        ("el [MASK]", {"among": ["pan", " "]}, "candidate is empty"),
        ("el [MASK]", {"among": ["ßß"]}, "can't spell the candidate 'ßß'"),
        ("gat[MASK] come", {"among": ["o"]}, "shares a token"),
        ("el [MASK] " + "pan " * 40, {}, "42 tokens and 30 fit"),
        ("[MASK] " + "pan " * 28, {"among": ["piñones"]}, "33 tokens and 30 fit"),
    ],
)
def test_questions_that_can_not_be_answered(asked, text, options, words):
    tokenizer = asked.tokenizer
    if "shares" in words:
        tokenizer = kind("wordpiece")  # where "gato" is one token
    with pytest.raises((DataError, ConfigError), match=words):
        EncoderModel(bert(tokenizer.size) if tokenizer is not asked.tokenizer else asked.model, tokenizer).fill(
            text, **options
        )


def test_models_that_have_no_words_to_give_say_so():
    tokenizer = wordpieces()
    asked = EncoderModel(bert(tokenizer.size, head=None), tokenizer)
    assert not {"fill", "score", "next_sentence"} & set(asked.verbs)
    for verb in (asked.fill, asked.score):
        with pytest.raises(ConfigError, match=r"needs an output layer.*embed"):
            verb("el [MASK]")
    with pytest.raises(ConfigError, match=r"generate asked of an encoder: its verbs are embed.*attend"):
        asked.generate("el")
    plain = kind("word")
    with pytest.raises(ConfigError, match="no mask token"):
        EncoderModel(bert(plain.size), plain).fill("el gato")


def test_answers_are_drawn(asked):
    drawn = asked.fill("el [MASK] y <b>[MASK]")._repr_html_()
    assert drawn.count("<svg") == 2
    assert "<b>" not in drawn
