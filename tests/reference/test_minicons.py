"""Pseudo-log-likelihoods and their conventions against minicons, on the same random weights."""

import importlib.util

import numpy as np
import pytest

from tiny_models import TEXTS, bert, gpt, kind, wordpieces
from vocablo import checkpoint
from vocablo.api import load

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("minicons") is None or importlib.util.find_spec("transformers") is None,
    reason="needs minicons and transformers (the bench extra)",
)
VARIANTS = {"token": "original", "word_l2r": "within_word_l2r"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    tokenizer = wordpieces()
    checkpoint.save(place / "bert", bert(tokenizer.size), tokenizer)
    byte = kind("bpe")
    checkpoint.save(place / "gpt", gpt(byte.size, context=64, tied=True), byte)
    return place


@pytest.mark.parametrize("variant", VARIANTS)
def test_encoders(folders, variant):
    from minicons import scorer

    theirs, ours = scorer.MaskedLMScorer(str(folders / "bert"), "cpu"), load(folders / "bert")
    if not hasattr(theirs.tokenizer, "batch_encode_plus"):
        theirs.tokenizer.batch_encode_plus = theirs.tokenizer.__call__  # its name before transformers 5
    found = ours.score(TEXTS, variant=variant, convention="minicons")
    told = theirs.token_score(TEXTS, PLL_metric=VARIANTS[variant])
    for one, expected in zip(found, told, strict=True):
        assert len(one.tokens) == len(expected)
        np.testing.assert_allclose(one.log_probs, [value for _, value in expected], atol=1e-4)
    ranked = theirs.sequence_score(TEXTS, PLL_metric=VARIANTS[variant])
    np.testing.assert_allclose([one.value for one in found], ranked, atol=1e-4)


def test_left_to_right(folders):
    from minicons import scorer

    theirs, ours = scorer.IncrementalLMScorer(str(folders / "gpt"), "cpu"), load(folders / "gpt")
    theirs.tokenizer.pad_token = theirs.tokenizer.eos_token  # it pads, and a GPT has nothing to pad with
    found = ours.score(TEXTS, convention="minicons")
    for text, one in zip(TEXTS, found, strict=True):
        (expected,) = theirs.token_score([text])
        np.testing.assert_allclose(one.log_probs[1:], [value for _, value in expected][1:], atol=1e-4)
        assert one.value == pytest.approx(theirs.sequence_score([text])[0], abs=1e-4)
