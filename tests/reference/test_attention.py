"""Attention against a worked example, against the formula written out, and against numerical gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from vocablo.base.errors import ConfigError
from vocablo.contract import Fences, Tokens
from vocablo.models import transformer
from vocablo.nn import cpu_attention, taps
from vocablo.nn.attention import attention, explained
from vocablo.nn.layers import Norm, normalisation
from vocablo.nn.look import Look
from vocablo.nn.masking import masking
from vocablo.nn.positions import Distances, Position, distance_buckets

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
@given(lengths, st.data(), st.booleans(), st.booleans(), st.sampled_from(["none", "fixed", "learned"]))
def test_every_path_gives_the_formulas_outputs_and_gradients(rows, data, causal, cross, bias):
    if cross:  # a source as long as the target or longer, so that a causal look leaves every query something to see
        cols = [length + data.draw(st.integers(0, 4)) for length in rows]
    else:
        cols = rows
    q, k, v, row_fences, col_fences = random_case(rows, cols)
    look = Look(causal, data.draw(st.integers(0, 5)) if causal else 0)
    draw = torch.Generator().manual_seed(1)
    upstream = torch.randn(q.shape, generator=draw)
    added = torch.randn(2, max(rows), max(cols), generator=draw)
    results = []
    for path in (explained, attention):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        if bias != "none":
            inputs.append(added.clone().requires_grad_(bias == "learned"))
        bias_here = None if bias == "none" else inputs[3]
        out = path(*inputs[:3], row_fences, col_fences, look, scale=8**-0.5, bias=bias_here)
        out = out[0] if path is explained else out
        out.backward(upstream)
        results.append([out, *(x.grad for x in inputs if x.requires_grad)])
    for slow, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_a_bias_is_added_to_the_scores_and_has_a_gradient(monkeypatch):
    """Heads one by one, and whole sequences together; in float64 against numerical derivatives."""
    q, k, v, fences, _ = random_case([5, 2, 4, 5], [5, 2, 4, 5], width=3, dtype=torch.float64)
    bias = torch.randn(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for piece in (1, 1 << 20):
        monkeypatch.setattr(cpu_attention, "SCORE_BYTES", piece)
        for causal in (True, False):

            def run(q, k, v, bias, causal=causal):
                lengths = (fences.lengths, fences.lengths)
                return cpu_attention.attend(q, k, v, lengths, bias, Look(causal), scale=0.7, dropout=0.0)

            scores = q[:5].transpose(0, 1) @ k[:5].permute(1, 2, 0) * 0.7 + bias[:, :5, :5]
            if causal:
                scores = scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -math.inf)
            torch.testing.assert_close(
                run(q, k, v, bias)[:5], (scores.softmax(2) @ v[:5].transpose(0, 1)).transpose(0, 1)
            )
            assert torch.autograd.gradcheck(run, [x.clone().requires_grad_() for x in (q, k, v, bias)])


def test_groups_hold_every_sequence_once_and_little_padding():
    draw = torch.Generator().manual_seed(0)
    lengths = tuple(torch.randint(0, 300, (200,), generator=draw).tolist())
    plan = cpu_attention.plan(lengths, lengths, 2, False)
    assert len(plan.groups) < 20
    assert sum(group.count for group in plan.groups) == sum(length > 0 for length in lengths)
    assert sorted(plan.queries.back.tolist()) == sorted(set(plan.queries.back.tolist()))
    for group in plan.groups:
        assert group.count * group.height * group.width < 2 * sum(length**2 for length in lengths) + 1024 * group.count


def test_lengths_may_be_zero():
    q, k, v, fences, _ = random_case([0, 3, 0, 2], [0, 3, 0, 2])
    out = attention(q, k, v, fences, fences, Look(causal=True), scale=1.0)
    torch.testing.assert_close(out, explained(q, k, v, fences, fences, Look(causal=True), scale=1.0)[0])


@pytest.mark.parametrize("lengths", [[4, 4], [2, 5, 2]], ids=["equal", "unequal"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_dropped_weights_have_the_gradient_of_their_own_numbers(lengths, causal, biased):
    """Numerical derivatives in float64, the same weights being dropped each time."""
    q, k, v, fences, _ = random_case(lengths, lengths, width=3, dtype=torch.float64)
    bias = torch.randn(2, max(lengths), max(lengths), generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def run(q, k, v, bias=None, dropout=0.4):
        torch.manual_seed(3)
        return attention(q, k, v, fences, fences, Look(causal=causal), scale=0.7, dropout=dropout, bias=bias)

    inputs = [x.requires_grad_() for x in (q, k, v, *([bias] if biased else []))]
    assert not torch.allclose(run(*inputs), run(*inputs, dropout=0.0))
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("lengths", [[6, 6], [3, 6, 3]], ids=["equal", "unequal"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_the_backward_pass_in_bfloat16_is_near_the_one_in_float32(lengths, causal, biased):
    """On a CPU it is our own. bfloat16 has 8 bits: relative errors of 2^-9 an operation, a few of them in a row."""
    q, k, v, fences, _ = random_case(lengths, lengths)
    bias = torch.randn(2, max(lengths), max(lengths), generator=torch.Generator().manual_seed(4))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [x.clone().to(dtype).requires_grad_() for x in (q, k, v, *([bias] if biased else []))]
        given = {"bias": inputs[3]} if biased else {}
        out = attention(*inputs[:3], fences, fences, Look(causal=causal), scale=8**-0.5, **given)
        out.float().square().sum().backward()
        found.append([out.float(), *(x.grad.float() for x in inputs)])
    for exact, near in zip(*found, strict=True):
        assert (near - exact).norm() < 0.03 * exact.norm()


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


def test_distances_have_the_buckets_of_t5():
    """As transformers computes them for MPNet, for all distances that a long text has."""
    distances = torch.arange(-600, 601)
    theirs = MPNetEncoder.relative_position_bucket(distances, num_buckets=32, max_distance=128)
    assert torch.equal(distance_buckets(distances, 32, 128), theirs)
    near = distance_buckets(torch.tensor([0, -1, -7, 1, 7, -500, 500]), 32, 128)
    assert near.tolist() == [0, 1, 7, 17, 23, 15, 31]


def test_the_bias_of_a_distance_is_its_row_of_the_table():
    table = Distances(Position(buckets=32, distance=128), heads=3)
    bias = table(40)
    assert bias.shape == (3, 40, 40)
    for i, j in ((0, 0), (5, 3), (3, 5), (39, 0), (0, 39)):
        bucket = int(distance_buckets(torch.tensor(j - i), 32, 128))
        assert torch.equal(bias[:, i, j], table.weight[bucket])


ENCODERS = [
    {},
    {"position": {"buckets": 8, "distance": 20}},
    {"position": {"kind": "rotary"}},
    {"stack": {"shared": True}},
]


def encoder(**changes):
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("bert", "tiny", 20, 16, changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize("changes", ENCODERS, ids=str)
def test_weights_of_an_encoder_are_the_same_on_every_path(changes):
    """Alone (dense), among equals (dense), among others (grouped): one softmax, rows that sum to one, all tokens seen."""
    model = encoder(**changes)
    texts = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11, 12]]
    batches = [[texts[0]], [texts[0], texts[2]], texts]
    found = []
    for batch in batches:
        with taps.watching() as seen, torch.no_grad():
            model(Tokens.of(batch))
        assert len(seen.recorded) == model.depth
        found.append([seen.weights(layer)[0] for layer in range(model.depth)])
    for layer in zip(*found, strict=True):
        for weights in layer:
            torch.testing.assert_close(weights, layer[0], atol=1e-6, rtol=1e-5)
        assert (layer[0] > 0).all()
        torch.testing.assert_close(layer[0].sum(2), torch.ones(layer[0].shape[:2]))


@pytest.mark.parametrize("family", ["gpt", "bert"])
@pytest.mark.parametrize("changes", ENCODERS[:1] + ENCODERS[2:], ids=str)
def test_a_masked_head_adds_nothing(family, changes):
    """As if its columns of the output projection were zero, in that layer alone; and afterwards all is as before."""
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for(family, "tiny", 20, 16, changes)).eval()
    tokens = Tokens.of([[1, 2, 3, 4, 5], [6, 7]])
    with torch.no_grad():
        plain = model(tokens, keep=(1, 2))
        with masking(model, {1: [0]}):
            masked = model(tokens, keep=(1, 2))
        assert torch.equal(plain.layers[0], masked.layers[0])
        assert not torch.allclose(plain.layers[1], masked.layers[1])
        assert torch.equal(model(tokens).states, plain.states)
        if not changes.get("stack"):
            size = 128 // model.layers[1].attention.heads
            model.layers[1].attention.out.weight[:, :size] = 0
            torch.testing.assert_close(model(tokens).states, masked.states, atol=1e-6, rtol=1e-5)


def test_a_mask_scales_and_tells_how_much_a_head_matters():
    """The gradient of a mask at one, against the difference of two readings (Michel et al. 2019)."""
    model = encoder(attention={"heads": 4}).double()
    tokens = Tokens.of([[1, 2, 3, 4], [5, 6]])

    def loss(mask):
        with masking(model, mask):
            return model(tokens).states.square()[:, :3].sum()  # of all of them, a norm has fixed the sum

    mask = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    loss(mask).backward()
    for layer, head in ((0, 0), (1, 3)):
        step = torch.zeros(2, 4, dtype=torch.float64)
        step[layer, head] = 1e-5
        with torch.no_grad():
            slope = float(loss(1 + step) - loss(1 - step)) / 2e-5
        assert float(mask.grad[layer, head]) == pytest.approx(slope, rel=1e-5)


def test_a_mask_holds_while_a_decoder_reads_step_by_step():
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("gpt", "tiny", 20, 16, {})).eval()
    with torch.no_grad(), masking(model, {0: [1, 2], 1: [0]}):
        whole = model.logits(model(Tokens.of([[1, 2, 3, 4]])).states)
        _, state = model.extend(Tokens.of([[1, 2]]), None)
        logits, state = model.extend(Tokens.of([[3]]), state)
        torch.testing.assert_close(logits, whole[2:3], atol=1e-5, rtol=1e-5)
        logits, _ = model.extend(Tokens.of([[4]]), state)
        torch.testing.assert_close(logits, whole[3:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("heads", "said"),
    [({2: [0]}, "layers 0 to 1"), ({0: [2]}, "heads 0 to 1"), (torch.ones(3, 2), r"\[2, 2\]")],
)
def test_a_mask_for_what_is_not_there(heads, said):
    with pytest.raises(ConfigError, match=said), masking(encoder(), heads):
        pass


def test_the_lectures_normalisation():
    """(x - mean) / (sigma + eps) with epsilon beside the standard deviation; torch's is beside the variance, in the root.

    At equal epsilon they differ by about eps / sigma for the former and eps / (2 sigma^2) for the latter: the numbers
    are one where sigma is large, and only torch's, which all checkpoints are of, is used here.
    """
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 16, generator=draw, dtype=torch.float64) * 3 + 1
    mean, sigma = x.mean(1, keepdim=True), x.std(1, keepdim=True, correction=0)
    eps = 1e-5
    lecture, inside = (x - mean) / (sigma + eps), (x - mean) / (sigma**2 + eps).sqrt()
    norm = normalisation(16, Norm(eps=eps)).double()
    torch.testing.assert_close(norm(x), inside, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(norm(x), lecture, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(norm(x), lecture, atol=1e-9, rtol=1e-9)
    flat = x * 1e-6  # where sigma is near epsilon, the place decides
    ours = norm(flat).detach()
    expected = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True, correction=0) + eps).sqrt()
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-9)
    beside = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True, correction=0) + eps)
    assert float((beside.abs() / ours.abs()).min()) > 100
