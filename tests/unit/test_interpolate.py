"""Mixtures of two models: against the formula, on every path by which a model is asked, and the weight chosen for a text."""

import itertools

import numpy as np
import pytest
import torch

from command_line import refused
from command_line import vocablo as command
from tiny_models import TEXTS, bert, counted, gpt, kind, lstm, naive_log_probs
from vocablo import api
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import DecodeState, LeftModel, Tokens
from vocablo.inference.encoder import EncoderModel
from vocablo.inference.left_model import LanguageModel
from vocablo.inference.mixture import Mixture, best_weight
from vocablo.models import neural_ngram, ngram


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Models this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def words():
    return kind("word")


def neural(tokenizer):
    torch.manual_seed(3)
    config = neural_ngram.config_for("neural-ngram", "tiny", tokenizer.size, 8, {"boundary": tokenizer.end_id})
    return neural_ngram.build(config).eval()


def cached(tokenizer):
    """A trigram with a cache: its state is longer than its contexts, and is carried."""
    plain = counted(tokenizer)
    config = plain.config.model_copy(update={"cache": ngram.Cache(length=7, weight=0.3)})
    model = ngram.build(config)
    model.load_state_dict(plain.state_dict())
    return model.eval()


MAKERS = {
    "ngram": counted,
    "cache": cached,
    "lstm": lambda t: lstm(t.size),
    "gpt": lambda t: gpt(t.size),
    "neural": neural,
}
PAIRS = list(itertools.combinations(MAKERS, 2))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@torch.no_grad()
def test_it_is_the_weighted_mean_on_every_path(words, pair):
    first, second = (MAKERS[name](words) for name in pair)
    mixture = Mixture(first, second, 0.3)
    assert isinstance(mixture, LeftModel)
    sequences = [[words.end_id, 3, 5, 4, 7], [words.end_id, 9]]
    tokens = Tokens.of(sequences)
    one, other = (model.logits(model.forward(tokens).states).double().softmax(1) for model in (first, second))
    expected = 0.3 * one + 0.7 * other
    states = mixture.forward(tokens).states
    torch.testing.assert_close(mixture.logits(states).double().exp(), expected, atol=1e-6, rtol=1e-5)
    at, ids = torch.tensor([6, 0, 3]), torch.tensor([2, 5, 0])
    found = mixture.target_log_probs(states, at, ids).double().exp()
    torch.testing.assert_close(found, expected[at, ids], atol=1e-6, rtol=1e-5)
    _, state = mixture.extend(Tokens.of([[words.end_id, 3, 5], [words.end_id]]), None)
    assert isinstance(state, DecodeState)
    stepped, _ = mixture.extend(Tokens.of([[9], [4, 7]]), state.select(torch.tensor([1, 0])))
    torch.testing.assert_close(stepped.double().exp(), expected[[6, 4]], atol=1e-6, rtol=1e-5)


def test_it_is_asked_like_any_model(words):
    mixed = api.interpolate(LanguageModel(counted(words), words), LanguageModel(lstm(words.size), words), 0.6)
    ids = [words.end_id, *words.encode(TEXTS[0]).ids]
    (score,) = mixed.score([TEXTS[0]])
    parts = [np.exp(naive_log_probs(model, ids)) for model in mixed.model.models]
    np.testing.assert_allclose(score.log_probs, np.log(0.6 * parts[0] + 0.4 * parts[1]), atol=1e-5)
    assert sum(one.prob for one in mixed.next_tokens("el", k=words.size).tokens) == pytest.approx(1, abs=1e-5)
    assert mixed.next("el gato", k=2).words
    assert len(mixed.generate("el", samples=2, max_tokens=4)) == 2
    assert "attend" not in mixed.verbs


def test_what_one_model_carries_is_carried(words, tmp_path):
    """Read as a stream, a cache goes on from line to line beside a model whose contexts end with the line."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    first, second = LanguageModel(cached(words), words), LanguageModel(counted(words), words)
    mixed = api.interpolate(first, second, 0.5)
    found = mixed.perplexity(path, documents="line", carry=True)
    stream = [words.end_id, *(token for text in TEXTS for token in [*words.encode(text).ids, words.end_id])]
    parts = [np.exp(naive_log_probs(model.model, stream)) for model in (first, second)]
    assert found.log_prob == pytest.approx(np.log((parts[0] + parts[1]) / 2).sum(), abs=1e-3)
    assert "0.5 of the first model and 0.5 of the second" in found.policy
    with pytest.raises(ConfigError, match="carry"):
        api.interpolate(first, LanguageModel(gpt(words.size), words)).perplexity(path, documents="line", carry=True)


def test_the_best_weight_is_the_maximum():
    rng = np.random.default_rng(0)
    first, second = np.log(rng.uniform(0.001, 1, size=(2, 300)))
    grid = np.linspace(0.001, 0.999, 999)
    totals = [np.logaddexp(first + np.log(one), second + np.log1p(-one)).sum() for one in grid]
    assert best_weight(first, second) == pytest.approx(grid[int(np.argmax(totals))], abs=0.002)
    assert best_weight(first, first - 1) == 0.999
    assert best_weight(np.array([-900.0, -1000.0]), np.array([-1000.0, -900.0])) == pytest.approx(0.5, abs=1e-9)


def test_the_weight_is_chosen_on_a_text(words, tmp_path):
    path = tmp_path / "held-out.txt"
    path.write_text("la gata come pan .\nel perro mira la luna .\n", encoding="utf-8")
    parts = [LanguageModel(counted(words), words), LanguageModel(gpt(words.size), words)]
    best = api.interpolate(*parts, text=path, documents="line")
    for other in (best.model.weight - 0.05, best.model.weight + 0.05):
        if 0 < other < 1:
            worse = api.interpolate(*parts, other).perplexity(path, documents="line")
            assert worse.perplexity > best.perplexity(path, documents="line").perplexity
    blank = tmp_path / "blank.txt"
    blank.write_text("x")
    with pytest.raises(ConfigError, match="not both"):
        api.interpolate(*parts, 0.5, text=blank)


def test_what_can_not_be_mixed_is_refused(words):
    one = LanguageModel(counted(words), words)
    letters = kind("char")
    with pytest.raises(ConfigError, match=r"same tokenizer.*--tokenizer"):
        api.interpolate(one, LanguageModel(lstm(letters.size), letters))
    with pytest.raises(ConfigError, match="left to right"):
        api.interpolate(one, EncoderModel(bert(words.size), words, {}, None))
    for weight in (0, 1, -0.1, 1.5):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            api.interpolate(one, one, weight)
    with pytest.raises(ConfigError, match="--tokenizer"):
        Mixture(counted(words), lstm(words.size + 1), 0.5)


def test_on_the_command_line(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    api.checkpoint.save("ngram", counted(words), words)
    api.checkpoint.save("lstm", lstm(words.size), words)
    both = ["-m", "ngram", "--interpolate", "lstm"]
    reading = ["perplexity", "--text", "text.txt", "--documents", "line"]
    done = command(*reading, *both, "--weight-text", "text.txt")
    assert done.code == 0, done.err
    assert "interpolated, 0.9" in done.out
    for verb in (["next", "el"], ["generate", "el", "--max-tokens", "3"], ["score", "el gato come"]):
        assert command(*verb, *both, "--weight", "0.7").code == 0
    refused(command(*reading, "-m", "ngram", "--weight", "0.3"), "--interpolate")
    refused(command(*reading, *both, "--weight", "3"), "between 0 and 1", "3")
    refused(command(*reading, *both, "--weight", "0.5", "--weight-text", "text.txt"), "not both")
    refused(command(*reading, "-m", "ngram", "--interpolate", "gone"), "gone")


def test_a_text_without_tokens_has_no_best_weight(words, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n")
    one = LanguageModel(counted(words), words)
    with pytest.raises(DataError):
        api.interpolate(one, one, text=tmp_path / "blank.txt")
