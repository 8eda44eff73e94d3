"""Log-probabilities of targets, and their gradients, against autograd over the whole matrix of logits."""

import pytest
import torch
import torch.nn.functional as F

from vocablo.nn import head
from vocablo.nn.head import target_log_probs


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Sizes at which a few targets are several chunks of several pieces."""
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * 50 * 20)
    monkeypatch.setattr(head, "PIECE_BYTES", 4 * 50 * 9)


def material(count: int = 70, vocab: int = 50, width: int = 12) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    states, weight = torch.randn(90, width, generator=draw), torch.randn(vocab, width, generator=draw)
    bias = torch.randn(vocab, generator=draw)
    at = torch.randint(90, (count,), generator=draw)
    return [states, weight, bias, at, torch.randint(vocab, (count,), generator=draw)]


def reference(states, weight, bias, at, ids):
    return F.log_softmax(F.linear(states[at], weight, bias), dim=1)[torch.arange(len(ids)), ids]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_those_of_the_whole_matrix(weighted, biased):
    *leaves, at, ids = material()
    factors = torch.randn(len(ids), generator=torch.Generator().manual_seed(1)) if weighted else torch.ones(len(ids))
    found = []
    for function in (
        lambda s, w, b: reference(s, w, b, at, ids),
        lambda s, w, b: target_log_probs(s, at, ids, w, b),
    ):
        states, weight, bias = (leaf.clone().requires_grad_() for leaf in leaves)
        log_probs = function(states, weight, bias if biased else None)
        (log_probs * factors).sum().backward() if weighted else log_probs.sum().mul(0.25).backward()
        found.append((log_probs.detach(), states.grad, weight.grad, bias.grad if biased else torch.zeros(1)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nobody_pays_for_gradients_that_nobody_asks_for(mode, monkeypatch):
    states, weight, bias, at, ids = material()
    weight = torch.nn.Parameter(weight)
    expected = reference(states, weight, bias, at, ids)
    monkeypatch.setattr(head._Gradients, "add", lambda *_: pytest.fail("a gradient was computed"))
    with mode():
        torch.testing.assert_close(target_log_probs(states, at, ids, weight, bias), expected, atol=2e-5, rtol=1e-5)


def test_bfloat16_is_near():
    states, weight, bias, at, ids = material()
    exact = reference(states, weight, bias, at, ids)
    rounded = target_log_probs(states.bfloat16(), at, ids, weight.bfloat16(), bias)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.15
    assert (rounded - exact).abs().mean() < 0.03


def test_extreme_scores_stay_finite():
    states = torch.tensor([[300.0], [-300.0]])
    weight = torch.tensor([[1.0], [-1.0]]).requires_grad_()
    log_probs = target_log_probs(states, None, torch.tensor([1, 1]), weight)
    assert log_probs.tolist() == [-600.0, 0.0]
    log_probs.sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_no_targets_are_no_loss():
    states, weight, *_ = material()
    weight.requires_grad_()
    none = torch.zeros(0, dtype=torch.long)
    log_probs = target_log_probs(states, none, none, weight)
    assert log_probs.shape == (0,)
    log_probs.sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()
