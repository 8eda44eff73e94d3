"""Pseudo-log-likelihoods against a loop that hides one token at a time and reads the whole text again."""

import math

import numpy as np
import pytest
import torch

from tiny_models import TEXTS, bert, gpt, kind, wordpieces
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Tokens
from vocablo.inference import pseudo
from vocablo.inference.encoder import EncoderModel
from vocablo.inference.left_model import LanguageModel
from vocablo.inference.score import one_kind


@pytest.fixture(scope="module")
def tokenizer():
    return wordpieces()


@pytest.fixture(scope="module")
def asked(tokenizer):
    return EncoderModel(bert(tokenizer.size), tokenizer)


def naive(asked, ids, word_ends=None):
    """log p of every token, hidden alone or with the rest of its word (up to ``word_ends[i]``); one reading for each."""
    tokenizer, found = asked.tokenizer, []
    for place in range(len(ids)):
        hidden = [*ids]
        for other in range(place, place + 1 if word_ends is None else word_ends[place]):
            hidden[other] = tokenizer.mask_id
        sequence = [tokenizer.cls_id, *hidden, tokenizer.sep_id]
        with torch.no_grad():
            states = asked.model.forward(Tokens.of([sequence])).states
            logits = asked.model.logits(states[place + 1 : place + 2])[0].double()
        found.append(float(logits.log_softmax(0)[ids[place]]))
    return found


def ends(tokenizer, ids):
    """Where each token's word ends: WordPiece says which pieces go on with a word."""
    goes_on = [tokenizer.vocabulary[index].startswith("##") for index in ids] + [False]
    return [next(j for j in range(i + 1, len(ids) + 1) if not goes_on[j]) for i in range(len(ids))]


@pytest.mark.parametrize("variant", ["token", "word_l2r"])
def test_a_score_is_the_loop_over_hidden_tokens(asked, tokenizer, variant):
    for text, score in zip(TEXTS, asked.score(TEXTS, variant=variant), strict=True):
        ids = tokenizer.encode(text).ids
        expected = naive(asked, ids, None if variant == "token" else ends(tokenizer, ids))
        np.testing.assert_allclose(score.log_probs, expected, atol=1e-5)
        assert score.log_prob == pytest.approx(sum(expected), abs=1e-4)
        assert score.pseudo_perplexity == pytest.approx(math.exp(-sum(expected) / len(ids)), rel=1e-4)
        assert (score.ids, score.variant) == (ids, variant)
        assert score.kind == f"pseudo-log-likelihood ({variant})"


def test_words_sum_their_pieces(asked):
    (score,) = asked.score("¡ la niña comió piñones !")
    assert [word.word for word in score.words] == ["¡", "la", "niña", "comió", "piñones", "!"]
    assert sum(word.log_prob for word in score.words) == pytest.approx(score.log_prob)
    longest = score.words[4]
    assert score.tokens[longest.begin : longest.end] == ["p", "##iñ", "##o", "##n", "##es"]
    assert longest.log_prob == pytest.approx(sum(score.log_probs[longest.begin : longest.end]))


def test_where_words_are_one_piece_the_variants_are_equal():
    tokenizer = kind("wordpiece")
    asked = EncoderModel(bert(tokenizer.size, seed=3), tokenizer)
    token, l2r = (asked.score(TEXTS, variant=variant) for variant in ("token", "word_l2r"))
    assert [one.log_probs for one in token] == [one.log_probs for one in l2r]


def test_pieces_of_a_word_give_each_other_away_only_token_by_token(asked):
    token, l2r = (asked.score("piñones", variant=variant)[0].log_probs for variant in ("token", "word_l2r"))
    assert l2r[-1] == pytest.approx(token[-1], abs=1e-6), "the last piece sees all others in both"
    assert all(abs(a - b) > 1e-3 for a, b in zip(token[:-1], l2r[:-1], strict=True))


@pytest.mark.parametrize("variant", ["token", "word_l2r"])
def test_a_batch_is_the_texts_alone(asked, variant, monkeypatch):
    """Also when batches are so small that one text's copies are split, and lengths are mixed."""
    alone = [asked.score(text, variant=variant)[0].log_probs for text in TEXTS]
    for budget in (9, 45, 10**6):
        monkeypatch.setattr(pseudo, "BATCH_TOKENS", budget)
        together = [one.log_probs for one in asked.score([*TEXTS, *reversed(TEXTS)], variant=variant)]
        for found, expected in zip(together, alone + alone[::-1], strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_special_tokens_are_never_scored_and_a_mask_is_refused(asked, tokenizer):
    (score,) = asked.score("el [SEP] pan")
    assert score.tokens == ["el", "[SEP]", "pan"]
    assert [value is None for value in score.log_probs] == [False, True, False]
    assert asked.score("")[0].log_probs == []
    assert asked.score("")[0].log_prob == 0
    with pytest.raises(DataError, match="mask"):
        asked.score("el [MASK] come")
    assert asked.score("el zorro ß")[0].unknown == 1


def test_windows_score_each_token_once_where_it_has_most_around_it(tokenizer):
    asked = EncoderModel(bert(tokenizer.size, context=10), tokenizer)
    ids = tokenizer.encode(TEXTS[2]).ids
    with pytest.raises(DataError, match=r"18 tokens and 8 fit.*--stride 4"):
        asked.score(TEXTS[2])
    with pytest.raises(ConfigError, match="stride is at least 1 and at most the 8"):
        asked.score(TEXTS[2], stride=9)
    (score,) = asked.score(TEXTS[2], stride=4)
    expected = []
    for place in range(18):
        # Windows begin at 0, 4, 8 and 10; the nearer border of a window is farthest in the best one, the first of equals.
        begin = max((0, 4, 8, 10), key=lambda b: min(place - b, b + 7 - place))
        expected.append(naive(asked, ids[begin : begin + 8])[place - begin])
    np.testing.assert_allclose(score.log_probs, expected, atol=1e-5)


def test_conventions_and_kinds(asked, tokenizer):
    ours, theirs = asked.score(TEXTS[0])[0], asked.score(TEXTS[0], convention="minicons")[0]
    assert (ours.value, theirs.value) == (ours.log_prob, ours.mean_log_prob)
    left = LanguageModel(gpt(tokenizer.size), tokenizer)
    chained, skipped = left.score(TEXTS[0])[0], left.score(TEXTS[0], convention="minicons")[0]
    assert (chained.first, skipped.first) == ("boundary", "skipped")
    assert skipped.log_probs[0] is None
    assert skipped.value == pytest.approx(sum(skipped.log_probs[1:]) / (len(skipped.ids) - 1))
    assert one_kind([ours, *asked.score(TEXTS)]) == "pseudo-log-likelihood (token)"
    for mixed in ([ours, chained], [ours, theirs], [ours, asked.score("el", variant="word_l2r")[0]]):
        with pytest.raises(ConfigError, match="can't be ranked together"):
            one_kind(mixed)
    with pytest.raises(ConfigError, match="minicon"):
        asked.score("el", convention="minicon")
    with pytest.raises(ConfigError, match="did you mean 'word_l2r'"):
        asked.score("el", variant="wordl2r")


def test_files_are_scored_line_by_line(asked, tokenizer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    for model in (asked, LanguageModel(gpt(tokenizer.size), tokenizer)):
        found = list(model.score_files(path))
        assert [one.text for one in found] == TEXTS
        assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in model.score(TEXTS)], abs=1e-5)
    with pytest.raises(DataError, match="gone"):
        asked.score_files(tmp_path / "gone")  # before anything is asked for


def test_a_tokenizer_that_splits_nothing_has_words_between_white_space():
    """Or the left-to-right variant would hide all the rest of the text."""
    from tiny_models import pieces

    tokenizer = pieces()
    encoding = tokenizer.encode("ab a.")
    assert len(set(encoding.words.tolist())) == 1
    numbers = pseudo._numbered(tokenizer, encoding)
    spelled = [tokenizer.surface(index) for index in encoding.ids]
    assert (np.diff(numbers) == [surface.startswith(" ") for surface in spelled[1:]]).all()
