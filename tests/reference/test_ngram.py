"""Modified Kneser-Ney against dictionaries written from Chen & Goodman 1998 (section 3), and the cache by its definition."""

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import vocablo
from vocablo import api, checkpoint
from vocablo.contract import Tokens
from vocablo.models import ngram

END = 0
VOCAB = 7  # the last id never occurs
TREEBANK = Path(__file__).parents[3] / "shared" / "data" / "ptb_mikolov"


def corpus(seed: int, documents: int = 12, longest: int = 9) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.choice([1, 1, 1, 2, 2, 3, 4, 5]) for _ in range(draw.randint(0, longest))] for _ in range(documents)]


def fitted(documents: list[list[int]], order: int, vocab: int = VOCAB, **cache) -> ngram.NGram:
    model = ngram.build(ngram.Config(vocab=vocab, order=order, cache=ngram.Cache(**cache)))
    tokens = np.array([word for document in documents for word in (*document, END)])
    model.count(tokens, np.cumsum([0, *(len(document) + 1 for document in documents)]))
    return model


class KneserNey:
    """p(w | h) from dictionaries, recursively; ``h`` begins with END where a document does."""

    def __init__(self, documents: list[list[int]], order: int, vocab: int = VOCAB) -> None:
        self.order, self.vocab = order, vocab
        raw = [Counter() for _ in range(order + 1)]
        for document in documents:
            padded = (END, *document, END)
            for k in range(1, order + 1):
                for end in range(1, len(padded)):
                    if end - k + 1 >= 0:
                        raw[k][padded[end - k + 1 : end + 1]] += 1
        self.counts, self.discounts = [{}], [[]]
        for k in range(1, order + 1):
            if k == order:
                counts = dict(raw[k])
            else:
                lefts = defaultdict(set)
                for gram in raw[k + 1]:
                    lefts[gram[1:]].add(gram[0])
                starts = {gram for gram in raw[k] if k > 1 and gram[0] == END}
                counts = {gram: raw[k][gram] if gram in starts else len(lefts[gram]) for gram in raw[k]}
            self.counts.append(counts)
            n = [sum(count == r for count in counts.values()) for r in range(5)]
            discounts = [0.0]
            for r in (1, 2, 3):
                wanted = r - (r + 1) * n[1] / (n[1] + 2 * n[2]) * n[r + 1] / n[r] if n[1] and n[r] else math.nan
                discounts.append(wanted if 0 < wanted < r else r / 2)
            self.discounts.append(discounts)

    def prob(self, word: int, history: tuple[int, ...]) -> float:
        return self._prob(word, history[max(len(history) - self.order + 1, 0) :])

    def _prob(self, word: int, history: tuple[int, ...]) -> float:
        below = self._prob(word, history[1:]) if history else 1 / self.vocab
        counts, discounts = self.counts[len(history) + 1], self.discounts[len(history) + 1]
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == history}
        total = sum(after.values())
        if total == 0:
            return below
        weight = sum(discounts[min(count, 3)] for count in after.values()) / total
        count = after.get(word, 0)
        return max(count - discounts[min(count, 3)], 0) / total + weight * below


def histories(seed: int, count: int = 60) -> list[list[int]]:
    """Histories seen and unseen, also with a boundary inside; every word of the vocabulary occurs in some."""
    draw = random.Random(seed)
    return [[draw.randrange(VOCAB) for _ in range(draw.randint(1, 7))] for _ in range(count)]


def since_boundary(history: list[int]) -> tuple[int, ...]:
    places = [place for place, word in enumerate(history) if word == END]
    return tuple(history[places[-1] :] if places else history)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_every_probability_is_that_of_the_definition(order, seed):
    documents = corpus(seed)
    model, reference = fitted(documents, order), KneserNey(documents, order)
    asked = histories(seed) + [[END, *document[:cut]] for document in documents for cut in range(len(document) + 1)]
    states = model.forward(Tokens.of(asked)).states
    last = Tokens.of(asked).fences.last()
    expected = np.log([[reference.prob(word, since_boundary(one)) for word in range(VOCAB)] for one in asked])
    np.testing.assert_allclose(model.logits(states[last]).numpy(), expected, atol=2e-6)
    at, ids = last.repeat_interleave(VOCAB), torch.arange(VOCAB).repeat(len(asked))
    np.testing.assert_allclose(model.target_log_probs(states, at, ids).numpy(), expected.ravel(), atol=2e-6)


def test_a_larger_corpus_uses_the_discounts_of_its_own_counts():
    """Of the tiny corpora some fall back to r / 2; here no order does."""
    draw, vocab = random.Random(9), 80
    documents = [[min(int(draw.paretovariate(0.7)), vocab - 1) for _ in range(draw.randint(0, 12))] for _ in range(300)]
    reference, model = KneserNey(documents, 3, vocab), fitted(documents, 3, vocab)
    for discounts in reference.discounts[1:]:
        assert all(discounts[r] != r / 2 for r in (1, 2, 3))
    asked = [[END, *document[:cut]] for document in documents[:6] for cut in range(len(document) + 1)]
    asked += [[draw.randrange(vocab), draw.randrange(8)] for _ in range(10)]
    states = model.forward(Tokens.of(asked)).states[Tokens.of(asked).fences.last()]
    words = range(0, vocab, 3)
    expected = np.log([[reference.prob(word, since_boundary(one)) for word in words] for one in asked])
    np.testing.assert_allclose(model.logits(states)[:, ::3].numpy(), expected, atol=2e-6)


def test_documents_shorter_than_the_order():
    """Orders of which there is no n-gram at all stay silent."""
    documents = [[1], [2], [1], []]
    model, reference = fitted(documents, 5), KneserNey(documents, 5)
    assert model.config.entries[2:] == (2, 0, 0)
    asked = [[END], [END, 1], [END, 1, 2, 1, 2], [3]]
    states = model.forward(Tokens.of(asked)).states[Tokens.of(asked).fences.last()]
    expected = np.log([[reference.prob(word, tuple(one)) for word in range(VOCAB)] for one in asked])
    np.testing.assert_allclose(model.logits(states).numpy(), expected, atol=2e-6)
    ids = torch.tensor([1, END, 1, 6])
    told = model.target_log_probs(states, torch.arange(4), ids)
    np.testing.assert_allclose(told.numpy(), expected[range(4), ids], atol=2e-6)


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("cache", [{}, {"length": 6, "weight": 0.3}])
def test_probabilities_sum_to_one_after_any_history(order, cache):
    model = fitted(corpus(3), order, **cache)
    states = model.forward(Tokens.of(histories(3))).states
    np.testing.assert_allclose(model.logits(states).double().exp().sum(1).numpy(), 1, atol=1e-6)


def test_contexts_never_cross_a_boundary():
    model = fitted(corpus(4), 5)
    ends = lambda *one: model.logits(model.forward(Tokens.of([list(one)])).states[-1:])  # noqa: E731
    assert torch.equal(ends(1, 2, END, 1), ends(END, 1))
    assert torch.equal(ends(END, 1, 1, END), ends(END))
    assert not torch.equal(ends(2, 1), ends(END, 1))  # but where a document begins matters


def test_the_cache_by_hand():
    """Length 4, weight 0.25. After END 1 2 1 the cache holds 1/4 END, 2/4 one, 1/4 two; then 1 2 1 2 it is halves."""
    plain, cached = fitted(corpus(5), 2), fitted(corpus(5), 2, length=4, weight=0.25)
    sequence = Tokens.of([[END, 1, 2, 1, 2]])
    before = plain.logits(plain.forward(sequence).states).double().exp()
    after = cached.logits(cached.forward(sequence).states).double().exp()
    shares = torch.zeros(5, VOCAB, dtype=torch.float64)
    shares[0, END] = 1
    shares[1, [END, 1]] = 1 / 2
    shares[2, [END, 1, 2]] = 1 / 3
    shares[3, [END, 1, 2]] = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    shares[4, [1, 2]] = 0.5  # END has left it
    np.testing.assert_allclose(after.numpy(), (0.75 * before + 0.25 * shares).numpy(), atol=1e-7)
    states = cached.forward(sequence).states
    told = cached.target_log_probs(states, torch.tensor([4, 3, 4]), torch.tensor([1, END, 3])).double().exp()
    np.testing.assert_allclose(told.numpy(), after[[4, 3, 4], [1, END, 3]].numpy(), atol=1e-7)


def test_the_cache_goes_on_over_documents_and_contexts_do_not():
    model = fitted(corpus(6), 3, length=5, weight=0.2)
    whole = model.logits(model.forward(Tokens.of([[END, 1, 2, END, 3]])).states)
    first = model.forward(Tokens.of([[END, 1, 2]]))
    second = model.forward(Tokens.of([[END, 3]]), state=first.state)
    assert torch.equal(model.logits(second.states), whole[3:])
    alone = model.logits(model.forward(Tokens.of([[END, 3]])).states)
    assert alone[0, 2] < whole[3, 2]  # word 2 is in the cache of one and not of the other


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [0, 3])
def test_extending_is_reading(order, length):
    model = fitted(corpus(7), order, length=length, weight=0.3)
    sequence = [END, 1, 1, 2, 3, 1, END, 2, 6, 1, 1]
    whole = model.logits(model.forward(Tokens.of([sequence])).states)
    state = None
    for place, word in enumerate(sequence):
        logits, state = model.extend(Tokens.of([[word]]), state)
        assert torch.equal(logits[0], whole[place])


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = fitted(corpus(8), 4, length=3, weight=0.3)
    checkpoint.save(tmp_path / "model", model)
    again = checkpoint.load(tmp_path / "model").model
    assert again.config == model.config
    states = model.forward(Tokens.of(histories(8))).states
    assert torch.equal(again.logits(states), model.logits(states))


@pytest.mark.slow
@pytest.mark.skipif(not TREEBANK.exists(), reason="Penn Treebank isn't here")
def test_penn_treebank(tmp_path):
    """Interpolated modified Kneser-Ney of order 5 has 141.2 (Mikolov et al. 2011); with a cache they have 125.7."""
    for cache, expected in (({}, 141.186), ({"length": 200, "weight": 0.1}, 126.769)):
        out = tmp_path / f"model-{len(cache)}"
        overrides = [f"model.cache.{key}={value}" for key, value in cache.items()]
        text, validation = TREEBANK / "ptb.train.txt", [str(TREEBANK / "ptb.valid.txt")]
        api.pretrain(
            "ngram", recipe="ptb-5gram", text=text, data={"validation_text": validation}, out=out, overrides=overrides,
            quiet=True,
        )  # fmt: skip
        told = api.load(out).perplexity(TREEBANK / "ptb.test.txt", documents="line", carry=bool(cache))
        assert told.tokens == 82_430
        assert told.perplexity == pytest.approx(expected, abs=1e-3)


def test_held_out_perplexity_with_a_cache_goes_on_over_documents(tmp_path):
    train, held_out = tmp_path / "train.txt", tmp_path / "held-out.txt"
    train.write_text("a b c\nb c a\nc a b\na c b\n" * 5, encoding="utf-8")
    held_out.write_text("a a b\na b b\nc a a\n", encoding="utf-8")
    result = vocablo.pretrain(
        "ngram",
        text=train,
        data={"documents": "line", "validation_text": [held_out]},
        out=tmp_path / "model",
        overrides=["model.cache.length=4", "model.cache.weight=0.3"],
        quiet=True,
    )
    model = vocablo.load(tmp_path / "model")
    carried = model.perplexity(held_out, documents="line", carry=True).perplexity
    assert result.perplexity == pytest.approx(carried, rel=1e-5)
    assert carried != pytest.approx(model.perplexity(held_out, documents="line").perplexity, rel=1e-3)
