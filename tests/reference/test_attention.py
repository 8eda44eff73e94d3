"""Attention against a worked example, against the formula written out, and against numerical gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocablo.contract import Fences, Tokens
from vocablo.models import transformer
from vocablo.nn import taps
from vocablo.nn.attention import Look, attention, explained

# Raimi Karim, "Illustrated: Self-Attention" (2019): three inputs of width four, one head of width three.
X = torch.tensor([[1.0, 0, 1, 0], [0, 2, 0, 2], [1, 1, 1, 1]])
W_K = torch.tensor([[0.0, 0, 1], [1, 1, 0], [0, 1, 0], [1, 1, 0]])
W_Q = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 1]])
W_V = torch.tensor([[0.0, 2, 0], [0, 3, 0], [1, 0, 3], [1, 1, 0]])
UNSCALED = [[1.936621, 6.683105, 1.595068], [1.999994, 7.963992, 0.053976], [1.999705, 7.759892, 0.358389]]
SCALED = [[1.863874, 6.319371, 1.704189], [1.999110, 7.814124, 0.273472], [1.992555, 7.479636, 0.735877]]


@pytest.mark.parametrize(("scale", "expected"), [(1.0, UNSCALED), (3**-0.5, SCALED)], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("path", ["explained", "dense", "grouped"])
def test_karims_worked_example(scale, expected, path):
    q, k, v = ((X @ w).unsqueeze(1) for w in (W_Q, W_K, W_V))
    assert q[:, 0].tolist() == [[1, 0, 2], [2, 2, 2], [2, 1, 3]]
    assert (q[:, 0] @ k[:, 0].T).tolist() == [[2, 4, 4], [4, 16, 12], [4, 12, 10]]
    fences = Fences.of([3])
    if path == "grouped":  # another sequence beside it, of another length, doesn't matter
        q, k, v = (torch.cat([torch.randn(2, 1, 3), x]) for x in (q, k, v))
        fences = Fences.of([2, 3])
    if path == "explained":
        out = explained(q, k, v, fences, fences, Look(), scale=scale)[0]
    else:
        out = attention(q, k, v, fences, fences, Look(), scale=scale)
    torch.testing.assert_close(out[-3:, 0], torch.tensor(expected), atol=2e-6, rtol=0)


def random_case(rows, cols, heads=2, width=8, seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    q = torch.randn(sum(rows), heads, width, generator=draw, dtype=dtype)
    k, v = (torch.randn(sum(cols), heads, width, generator=draw, dtype=dtype) for _ in range(2))
    return q, k, v, Fences.of(rows), Fences.of(cols)


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(lengths, st.data(), st.booleans(), st.booleans())
def test_every_path_gives_the_formulas_outputs_and_gradients(rows, data, causal, cross):
    if cross:  # a source as long as the target or longer, so that a causal look leaves every query something to see
        cols = [length + data.draw(st.integers(0, 4)) for length in rows]
    else:
        cols = rows
    q, k, v, row_fences, col_fences = random_case(rows, cols)
    upstream = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for path in (explained, attention):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        out = path(*inputs, row_fences, col_fences, Look(causal=causal), scale=8**-0.5)
        out = out[0] if path is explained else out
        out.backward(upstream)
        results.append([out, *(x.grad for x in inputs)])
    for slow, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_lengths_may_be_zero():
    q, k, v, fences, _ = random_case([0, 3, 0, 2], [0, 3, 0, 2])
    out = attention(q, k, v, fences, fences, Look(causal=True), scale=1.0)
    torch.testing.assert_close(out, explained(q, k, v, fences, fences, Look(causal=True), scale=1.0)[0])


@pytest.mark.parametrize("lengths", [[4, 4], [2, 5, 2]], ids=["equal", "unequal"])
@pytest.mark.parametrize("causal", [True, False])
def test_dropped_weights_have_the_gradient_of_their_own_numbers(lengths, causal):
    """Numerical derivatives in float64, the same weights being dropped each time."""
    q, k, v, fences, _ = random_case(lengths, lengths, width=3, dtype=torch.float64)

    def run(q, k, v):
        torch.manual_seed(3)
        return attention(q, k, v, fences, fences, Look(causal=causal), scale=0.7, dropout=0.4)

    assert not torch.allclose(run(q, k, v), attention(q, k, v, fences, fences, Look(causal=causal), scale=0.7))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(run, inputs)


def test_dropped_weights_are_a_share_p_and_the_mean_is_kept():
    """With values that are unit vectors the output is the row of weights itself, so the dropped ones can be counted."""
    size, count, p = 16, 400, 0.25
    q, k = torch.randn(2, count * size, 1, size)
    v = torch.eye(size).repeat(count, 1).unsqueeze(1)
    fences = Fences.of([size] * count)
    torch.manual_seed(0)
    weights = attention(q, k, v, fences, fences, Look(), scale=0.1, dropout=p)[:, 0]
    plain = attention(q, k, v, fences, fences, Look(), scale=0.1)[:, 0]
    dropped = weights == 0
    deviation = math.sqrt(p * (1 - p) / weights.numel())
    assert abs(dropped.float().mean() - p) < 4 * deviation
    torch.testing.assert_close(weights[~dropped], (plain / (1 - p))[~dropped], atol=1e-5, rtol=1e-4)


def test_weights_are_seen_without_changing_what_is_computed():
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("gpt", "tiny", 20, 16, {})).eval()
    tokens = Tokens.of([[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11, 12]])
    plain = model(tokens).states
    with taps.watching() as seen:
        watched = model(tokens).states
    assert torch.equal(plain, watched)
    model(tokens)
    assert len(seen.recorded) == 2  # nothing is kept once nobody looks
    for layer in range(2):
        alone = []
        for ids in ([1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11, 12]):
            with taps.watching() as one:
                model(Tokens.of([ids]))
            alone += one.weights(layer)
        for weights, own in zip(seen.weights(layer), alone, strict=True):
            assert weights.shape[0] == 4  # [H, T, S]
            torch.testing.assert_close(weights, own, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[:2]))
            assert (weights.triu(1) == 0).all()


def test_the_weights_seen_are_those_that_mixed_the_values():
    """Values of unit vectors make the first layer's output the weights, head by head."""
    torch.manual_seed(0)
    q, k, v, fences, _ = random_case([4], [4], heads=2, width=4)
    v = torch.eye(4).unsqueeze(1).expand(4, 2, 4)
    out = attention(q, k, v, fences, fences, Look(causal=True), scale=0.5)
    weights = explained(q, k, v, fences, fences, Look(causal=True), scale=0.5)[1][0]
    torch.testing.assert_close(out.transpose(0, 1), weights)
