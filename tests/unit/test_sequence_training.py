"""What training from pairs of texts adds to the loop: smoothed targets, the original schedule, batches of so many tokens."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vocablo.data.order import batches_of, of_like_length
from vocablo.measures.bleu import bleu, words
from vocablo.measures.rouge import longest, rouge
from vocablo.nn import head
from vocablo.training.schedules import learning_rate, noam_peak
from vocablo.training.settings import TrainSettings


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("upstream", ["one", "each"])
def test_the_smoothed_loss_is_the_explicit_kl_divergence(smoothing, biased, upstream, monkeypatch):
    """Values and all gradients, against KL(q | p) written out, which differs by the entropy of q, a constant."""
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * 7 * 16)
    draw = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(shape, generator=draw, requires_grad=True) for shape in ((40, 5), (7, 5), (7,)))
    ids = torch.randint(0, 7, (40,), generator=draw)
    given = bias if biased else None
    weights = torch.ones(40) if upstream == "one" else torch.rand(40, generator=draw)

    found, plain = head.smoothed_log_probs(states, None, ids, weight, given, smoothing)
    log_p = F.linear(states, weight, given).log_softmax(1)
    q = (1 - smoothing) * F.one_hot(ids, 7) + smoothing / 7
    kl = F.kl_div(log_p, q, reduction="none").sum(1)
    entropy = -(q * q.log()).sum(1)
    torch.testing.assert_close(-found, kl + entropy)
    torch.testing.assert_close(plain, log_p.gather(1, ids[:, None]).squeeze(1))
    assert not plain.requires_grad

    inputs = [states, weight, *([bias] if biased else [])]
    loss = -found.sum() if upstream == "one" else -(found * weights).sum()
    got = torch.autograd.grad(loss, inputs)
    expected = torch.autograd.grad((kl * weights).sum(), inputs)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_without_smoothing_it_is_the_plain_loss():
    draw = torch.Generator().manual_seed(0)
    states, weight = torch.randn(9, 5, generator=draw), torch.randn(7, 5, generator=draw)
    ids = torch.randint(0, 7, (9,), generator=draw)
    both = head.smoothed_log_probs(states, None, ids, weight, None, 0.0)
    for one in both:
        assert torch.equal(one, head.target_log_probs(states, None, ids, weight))


def test_the_published_peak_of_the_schedule_and_its_closed_form():
    assert noam_peak(512, 4000) == pytest.approx(6.987e-4, abs=1e-7)  # 6.98771e-4
    settings = TrainSettings(steps=20000, lr=noam_peak(512, 4000), warmup=4000, schedule="inverse-sqrt")
    rates = [learning_rate(settings, step, 20000, 1) for step in range(20000)]
    formula = [512**-0.5 * min(t**-0.5, t * 4000**-1.5) for t in range(1, 20001)]
    np.testing.assert_allclose(rates, formula, rtol=1e-12)
    assert max(range(20000), key=rates.__getitem__) == 3999


def test_batches_of_tokens_take_each_text_once_and_are_of_like_length():
    sizes = np.random.default_rng(0).integers(3, 60, 2000)
    for epoch in range(2):
        batches = of_like_length(sizes, 800, seed=1, epoch=epoch, pool=20)
        assert len(batches) == batches_of(sizes, 800) == math.ceil(sizes.sum() / 800)
        assert sorted(np.concatenate(batches).tolist()) == list(range(2000))
        totals = np.array([sizes[batch].sum() for batch in batches])
        assert totals.min() > 800 - 2 * 60
        assert totals.max() < 800 + 60
        spread = np.mean([np.ptp(sizes[batch]) for batch in batches])
        assert spread < 15  # by lot it would be near 57
    again = of_like_length(sizes, 800, seed=1, epoch=1, pool=20)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))
    first = of_like_length(sizes, 800, seed=1, epoch=0, pool=20)
    assert not all(np.array_equal(one, other) for one, other in zip(batches, first, strict=False))


@pytest.mark.parametrize("sizes", [[5], [1, 1000], [1000, 1, 1], [7] * 5, [1, 1, 1, 50, 50]])
@pytest.mark.parametrize("budget", [1, 10, 5000])
def test_no_batch_is_empty_however_long_some_texts_are(sizes, budget):
    batches = of_like_length(np.array(sizes), budget, seed=0, epoch=0)
    assert all(len(batch) for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(sizes)))


def test_bleu_of_papinenis_example_and_of_a_corpus():
    """The paper's example of clipped counts: "the" seven times has 2/7 of its words right."""
    one = bleu([words("The cat is on the mat.")], [["the"] * 7])
    assert one.rows[0, :2].tolist() == [1, 7]  # this reference has "the" once in lower case
    gold = ["el gato come pan en la casa .", "la luna mira el mar ."]
    assert bleu([text.split() for text in gold], [text.split() for text in gold]).value == pytest.approx(1)
    short = bleu([gold[0].split()], [gold[0].split()[:5]]).value
    assert short == pytest.approx(math.exp(1 - 8 / 5))
    assert bleu([gold[0].split()], [["x"] * 8]).value == 0


def test_bleu_is_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu")
    draw = np.random.default_rng(0)
    gold = [" ".join(draw.choice(list("abcdefgh"), draw.integers(5, 20))) for _ in range(50)]
    given = [" ".join(w if draw.random() < 0.8 else "z" for w in text.split()[: draw.integers(4, 20)]) for text in gold]
    expected = sacrebleu.corpus_bleu(given, [gold], tokenize="none", force=True).score
    assert 100 * bleu([t.split() for t in gold], [t.split() for t in given]).value == pytest.approx(expected)


def _subsequence(one, other):
    """The recursion of the definition."""
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return _subsequence(one[:-1], other[:-1]) + 1
    return max(_subsequence(one[:-1], other), _subsequence(one, other[:-1]))


def test_the_longest_common_subsequence_is_the_definitions():
    draw = np.random.default_rng(0)
    for _ in range(30):
        one, other = (draw.choice(list("abc"), draw.integers(0, 8)).tolist() for _ in range(2))
        assert longest(one, other) == _subsequence(one, other)


def test_rouge_by_hand_and_of_spanish_words():
    """Lin 2004, section 3: police killed the gunman / police kill the gunman -> L 3/4; / the gunman kill police -> 2/4."""
    values = {
        m.name: m.rows[:, 0].tolist()
        for m in rouge(["police killed the gunman"] * 2, ["police kill the gunman", "the gunman kill police"])
    }
    assert values["rouge-l"] == [0.75, 0.5]
    assert values["rouge-1"] == [0.75, 0.75]
    assert values["rouge-2"] == pytest.approx([1 / 3, 1 / 3])
    assert [m.value for m in rouge(["El año pasó"], ["el año paso"])] == pytest.approx([2 / 3, 1 / 2, 2 / 3])


def test_rouge_is_googles_on_english():
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    draw = np.random.default_rng(0)
    vocabulary = ["the", "a", "gunman", "police", "killed", "saw", "ran", "house", "of", "in"]
    gold, given = ([" ".join(draw.choice(vocabulary, draw.integers(3, 15))) for _ in range(40)] for _ in range(2))
    theirs = scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    scores = [theirs.score(one, other) for one, other in zip(gold, given, strict=True)]
    for ours, name in zip(rouge(gold, given), ("rouge1", "rouge2", "rougeL"), strict=True):
        assert ours.rows[:, 0] == pytest.approx([one[name].fmeasure for one in scores]), name
