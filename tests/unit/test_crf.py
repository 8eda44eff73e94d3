"""The CRF's recursions against sums and maxima over every sequence of tags; softmax within sequences against torch's."""

import copy
import itertools

import pytest
import torch

from vocablo.contract import Fences
from vocablo.nn.crf import CRF
from vocablo.nn.within import log_softmax_within


@pytest.fixture
def case():
    draw = torch.Generator().manual_seed(0)
    crf = CRF(3)
    for parameter in crf.parameters():
        parameter.data.normal_(generator=draw)
    fences = Fences.of([4, 1, 5, 4, 2])
    return crf, fences, torch.randn(fences.total, 3, generator=draw)


def brute(crf, scores):
    """The score of every sequence of tags of one sentence."""
    found = {}
    crf = copy.deepcopy(crf).requires_grad_(False)
    for tags in itertools.product(range(3), repeat=len(scores)):
        total = crf.first[tags[0]] + crf.last[tags[-1]] + sum(scores[t, tag] for t, tag in enumerate(tags))
        found[tags] = float(total + sum(crf.transitions[a, b] for a, b in itertools.pairwise(tags)))
    return found


def sentences(fences, values):
    return values.split(list(fences.lengths))


def test_log_probabilities_are_those_of_every_sequence_summed(case):
    crf, fences, scores = case
    tags = torch.arange(fences.total) % 3
    found = crf.log_prob(scores, fences, tags)
    for one, part, gold in zip(found.tolist(), sentences(fences, scores), sentences(fences, tags), strict=True):
        everything = brute(crf, part)
        total = torch.logsumexp(torch.tensor(list(everything.values())), 0)
        assert one == pytest.approx(everything[tuple(gold.tolist())] - float(total), abs=1e-5)


def test_viterbi_finds_the_best_sequence(case):
    crf, fences, scores = case
    for found, part in zip(sentences(fences, crf.viterbi(scores, fences)), sentences(fences, scores), strict=True):
        everything = brute(crf, part)
        assert everything[tuple(found.tolist())] == pytest.approx(max(everything.values()), abs=1e-5)


def test_marginals_are_sums_over_sequences(case):
    crf, fences, scores = case
    with torch.inference_mode():
        found = crf.marginals(scores, fences)
    for share, part in zip(sentences(fences, found), sentences(fences, scores), strict=True):
        everything = brute(crf, part)
        probs = torch.tensor(list(everything.values())).softmax(0)
        for t, k in itertools.product(range(len(part)), range(3)):
            expected = sum(float(p) for tags, p in zip(everything, probs, strict=True) if tags[t] == k)
            assert float(share[t, k]) == pytest.approx(expected, abs=1e-5)


def test_gradients_are_those_of_the_formula(case):
    crf, fences, scores = case
    inputs = [value.detach().double().requires_grad_() for value in (scores, *crf.parameters())]
    assert torch.autograd.gradcheck(lambda *values: _log_prob(*values, fences), inputs)


def _log_prob(scores, transitions, first, last, fences):
    crf = CRF(3).double()
    del crf.transitions, crf.first, crf.last
    crf.transitions, crf.first, crf.last = transitions, first, last
    return crf.log_prob(scores, fences, torch.arange(fences.total) % 3)


@pytest.mark.parametrize("lengths", [[3, 3, 3], [1, 4, 2]])
def test_softmax_within_sequences_is_that_of_each_alone(lengths):
    scores = (30 * torch.randn(sum(lengths), generator=torch.Generator().manual_seed(1))).requires_grad_()
    fences = Fences.of(lengths)
    found = log_softmax_within(scores, fences)
    alone = torch.cat([part.log_softmax(0) for part in scores.split(lengths)])
    torch.testing.assert_close(found, alone)
    weights = torch.arange(1.0, 1 + len(scores))
    one, other = (torch.autograd.grad((weights * value).sum(), scores)[0] for value in (found, alone))
    torch.testing.assert_close(one, other)
