"""Negative sampling: the compiled way against the algorithm written out, both ways on a corpus of two topics, and the verbs."""

import math

import numpy as np
import pytest
import torch

import vocablo
from command_line import refused
from command_line import vocablo as command
from vocablo import checkpoint
from vocablo.base.errors import ConfigError, DataError
from vocablo.data.store import Store
from vocablo.inference.words import WordModel
from vocablo.models import word_vectors
from vocablo.nn.word_vectors import Draws, Windows, alias_table, compiled, learn, learn_by_torch, pairs
from vocablo.text.tokenizer import Tokenizer

WAYS = {"torch": learn_by_torch, "compiled": learn}
TOPICS = (["perro", "gato", "loro", "pez"], ["queso", "pan", "leche", "uva"])


@pytest.fixture(autouse=True)
def _one_thread():
    """One thread gives the same numbers every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def need(way: str) -> None:
    if way == "compiled" and compiled() is None:
        pytest.skip("no C++ compiler")


def corpus(sentences: int = 600) -> list[str]:
    """Every sentence is of one topic."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(TOPICS[rng.integers(2)], size=6)) for _ in range(sentences)]


class SplitMix:
    """The generator of word_vectors.cpp, in Python's integers."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    def uniform(self) -> float:
        return (self.next() >> 40) / (1 << 24)

    def below(self, n: int) -> int:
        return ((self.next() >> 32) * n) >> 32


def written_out(vectors, told, draws, how, tokens, rates, seed):
    """Word after word in float64, as the paper says it and the compiled way draws it."""
    random, sentence, count = SplitMix(seed), [], 0
    for place, token in enumerate(tokens):
        if token != how.boundary:
            keep = draws.keep[token]
            if keep >= 1 or (keep > 0 and random.uniform() < keep):
                sentence.append(token)
        if token != how.boundary and place + 1 < len(tokens):
            continue
        rate = rates[0] + (rates[1] - rates[0]) * place / len(tokens)
        for at, word in enumerate(sentence):
            reach = 1 + random.below(how.window)
            around = [j for j in range(max(0, at - reach), min(len(sentence), at + reach + 1)) if j != at]
            for inputs in [around] if how.cbow and around else [[j] for j in around]:
                rows = [sentence[j] for j in inputs]
                h, error = np.mean([vectors[row] for row in rows], axis=0), 0
                for k in range(how.negatives + 1):
                    target = word
                    if k > 0:
                        drawn = random.below(len(draws.keep))
                        target = drawn if random.uniform() < draws.chance[drawn] else draws.other[drawn]
                        if target == word:
                            continue
                    g = rate * ((k == 0) - 1 / (1 + math.exp(-(h @ told[target]))))
                    error = error + g * told[target]
                    told[target] += g * h
                for row in rows:
                    vectors[row] += error
                count += 1
        sentence = []
    return count


@pytest.mark.parametrize("cbow", [False, True])
def test_the_compiled_way_is_the_algorithm(cbow):
    need("compiled")
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 9, size=400).astype(np.int32)
    counts = np.bincount(tokens, minlength=10)
    counts[[0, 3]] = 0  # the boundary, and a word that isn't trained
    draws, how = Draws.of(counts, 0.05, 0.75), Windows(3, 4, cbow, 0)
    assert 0 < draws.keep[1] < 1
    first = [torch.from_numpy(rng.normal(size=(10, 7)).astype(np.float32) / 2) for _ in range(2)]
    expected = [one.numpy().astype(np.float64) for one in first]
    count = written_out(*expected, draws, how, tokens, (0.05, 0.01), 7)
    before = [one.clone() for one in first]
    _, found = learn(*first, draws, how, tokens, (0.05, 0.01), 7)
    assert found == count > 250
    for one, other, start in zip(first, expected, before, strict=True):
        moved = np.abs(other - start.numpy()).max()
        assert moved > 0.1
        np.testing.assert_allclose(one.numpy(), other, atol=0.02 * moved)  # sigmoid from a table, to 0.001
        assert torch.equal(one[3], start[3])
        assert torch.equal(one[9], start[9])


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
@pytest.mark.parametrize("way", WAYS)
def test_words_that_share_their_contexts_are_neighbours(way, kind, monkeypatch):
    need(way)
    monkeypatch.setenv("VOCABLO_NATIVE", "1" if way == "compiled" else "0")
    texts = corpus()
    tokenizer = Tokenizer.of_words([word for topic in TOPICS for word in topic])
    changes = {"kind": kind, "lr": 0.05, "sample": 0.0, "boundary": tokenizer.end_id, "unknown": tokenizer.unk_id}
    torch.manual_seed(0)
    model = word_vectors.build(word_vectors.config_for("word-vectors", "tiny", tokenizer.size, 0, changes))
    untrained = model.vectors[tokenizer.end_id].clone()
    model.fit(Store.from_documents(texts, tokenizer))
    asked = WordModel(model, tokenizer)
    for topic in TOPICS:
        for word in topic:
            near = {one.word for one in asked.neighbors(word, k=3).neighbors}
            assert near == set(topic) - {word}
    assert torch.equal(model.vectors[tokenizer.end_id], untrained)


def test_one_thread_gives_the_same_vectors_again():
    tokenizer = Tokenizer.of_words([word for topic in TOPICS for word in topic])
    store = Store.from_documents(corpus(100), tokenizer)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        config = word_vectors.config_for("word-vectors", "tiny", tokenizer.size, 0, {"boundary": tokenizer.end_id})
        model = word_vectors.build(config)
        model.fit(store)
        found.append(model.vectors)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_negatives_are_drawn_by_their_counts_to_the_three_quarters():
    weights = np.array([0.0, 1, 16, 81, 0, 256]) ** 0.75
    chance, other = alias_table(weights)
    probability = np.zeros(6)
    for word in range(6):  # exact: each place is drawn with 1/6
        probability[word] += chance[word] / 6
        probability[other[word]] += (1 - chance[word]) / 6
    np.testing.assert_allclose(probability, weights / weights.sum(), atol=1e-7)
    keep = Draws.of(np.array([0, 900, 100]), 0.01, 0.75).keep
    np.testing.assert_allclose(keep, [0, math.sqrt(0.01 / 0.9) + 0.01 / 0.9, math.sqrt(0.1) + 0.1], rtol=1e-6)


def test_pairs_stay_in_their_sentence_and_within_the_window():
    tokens = np.array([1, 2, 9, 3, 0, 4, 5, 0, 6], dtype=np.int32)
    keep = np.ones(10, dtype=np.float32)
    keep[9] = 0  # unknown: left out before windows are cut
    words, at, around = pairs(tokens, keep, Windows(1, 1, False, 0), np.random.default_rng(0))
    assert words.tolist() == [1, 2, 3, 4, 5, 6]
    found = {(int(words[i]), int(words[j])) for i, j in zip(at, around, strict=True)}
    assert found == {(1, 2), (2, 1), (2, 3), (3, 2), (4, 5), (5, 4)}
    _, at, around = pairs(
        np.arange(1, 200, dtype=np.int32), np.ones(200, np.float32), Windows(4, 1, False, 0), np.random.default_rng(0)
    )
    reach = np.abs(at - around)
    assert reach.max() == 4
    assert (reach == 1).sum() > (reach == 4).sum() * 2  # every reach has the nearest words, one in four the farthest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("words")
    (place / "text.txt").write_text("\n".join(corpus(1500)), encoding="utf-8")
    result = vocablo.pretrain(
        "word-vectors",
        text=place / "text.txt",
        out=place / "model",
        size="tiny",
        overrides=["model.lr=0.05"],
        quiet=True,
    )
    assert result.next[0].startswith("vocablo neighbors")
    return place


def test_it_is_trained_saved_and_asked(folder):
    loaded = checkpoint.load(folder / "model")
    assert loaded.model.config.boundary == loaded.tokenizer.end_id
    assert loaded.model.config.unknown == loaded.tokenizer.unk_id
    asked = vocablo.load(folder / "model")
    assert asked.verbs == ("neighbors", "analogy", "similarity", "embed")
    near = asked.neighbors("gato", k=3)
    assert {one.word for one in near.neighbors} == {"perro", "loro", "pez"}
    assert near.searched == 8
    unit = {word: asked.vector(word) / np.linalg.norm(asked.vector(word)) for topic in TOPICS for word in topic}
    assert asked.similarity("gato", "pan").cosine == pytest.approx(float(unit["gato"] @ unit["pan"]), abs=1e-6)
    wanted = unit["perro"] - unit["gato"] + unit["queso"]
    cosines = {word: float(unit[word] @ wanted / np.linalg.norm(wanted)) for word in unit}
    for word in ("gato", "perro", "queso"):
        del cosines[word]
    best = asked.analogy("gato", "perro", "queso", k=2).answers
    assert [one.word for one in best] == sorted(cosines, key=cosines.__getitem__, reverse=True)[:2]
    assert best[0].cosine == pytest.approx(max(cosines.values()), abs=1e-6)
    embedded = asked.embed(["gato", "El gato y el queso"])
    np.testing.assert_allclose(embedded.vectors[1], (asked.vector("gato") + asked.vector("queso")) / 2, atol=1e-6)
    assert (embedded.words, embedded.unknown) == (6, 3)


def test_what_can_not_be_asked_or_trained(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    asked = vocablo.load("model")
    with pytest.raises(DataError, match="did you mean 'gato'"):
        asked.neighbors("gatto")
    with pytest.raises(DataError, match="No word"):
        asked.embed("xyz")
    with pytest.raises(ConfigError, match="k is at least 1"):
        asked.neighbors("gato", k=0)
    refused(command("score", "gato", "-m", "model"), "verbs are neighbors, analogy")
    refused(command("neighbors", "gato", "pan", "-m", "model"), "word is for encoders")
    refused(command("neighbors", "el", "--dtype", "int8", "-m", "model"), "fp32")
    refused(command("embed", "gato", "-m", "model", "--layers", "-1"), "--layers", "kind of model")
    assert command("neighbors", "gato", "-m", "model").code == 0
    assert command("analogy", "gato", "perro", "queso", "-m", "model", "--json").code == 0
    assert command("similarity", "gato", "perro", "-m", "model").code == 0
    assert command("embed", "--text", "text.txt", "--out", str(tmp_path / "v.npy"), "-m", "model").code == 0
    assert np.load(tmp_path / "v.npy").shape == (1500, 50)
    few = ["pretrain", "word-vectors", "--text", "text.txt", "--out", str(tmp_path / "x")]
    refused(command(*few, "tokenizer.min_count=100000"), "fewer than two words", early=False)
    refused(command(*few, "data.validation=0.1"), "no loss on held-out text", early=False)
    refused(command(*few, "model.kind=glove"), "kind", "skip-gram")
    refused(command(*few, "--steps", "5"), "makes no steps")
