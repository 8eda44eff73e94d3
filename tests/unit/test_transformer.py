"""The Transformer's parts: shapes and counts, norms in both places, the chunked head, dropout and the cache."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.models import transformer
from vocablo.nn import head, linear
from vocablo.nn.dropout import Dropout, dropout, keep_mask, kept_share
from vocablo.nn.positions import Position, Rotary, Sinusoidal, sinusoids, turning


def make(size="tiny", vocab=31, context=24, **changes):
    torch.manual_seed(0)
    return transformer.build(transformer.config_for("gpt", size, vocab, context, changes))


def count(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in transformer.build(config).parameters())


def test_published_numbers_of_parameters():
    assert count(transformer.config_for("gpt", "base", 50257, 1024, {})) == 124_439_808
    assert count(transformer.config_for("gpt", "large", 50257, 1024, {})) == 354_823_168  # "GPT-2 medium"
    plain = {"attention": {"bias": False}, "feed_forward": {"bias": False}, "norm": {"bias": False}}
    characters = count(transformer.config_for("gpt", "small", 65, 256, plain))
    assert characters - 256 * 384 == 10_646_784  # nanoGPT's 10.65 M, which leaves the positions out


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("tiny", 4_385_920),
        ("mini", 11_170_560),
        ("small", 28_763_648),
        ("medium", 41_373_184),
        ("base", 109_482_240),
        ("large", 335_141_888),
    ],
)
def test_published_numbers_of_parameters_of_encoders(size, parameters):
    """Encoder and pooler without the head, vocabulary 30,522 (the README of google-research/bert)."""
    config = transformer.config_for("bert", size, 30522, 512, {})
    assert count(config.model_copy(update={"head": None})) == parameters
    assert count(config) == parameters + config.stack.width * (config.stack.width + 3) + 30522  # dense, norm, bias


@pytest.mark.parametrize(
    ("size", "changes", "said"),
    [
        ("larg", {}, "did you mean 'large'"),
        ("tiny", {"stack": {"width": 126}}, "isn't a multiple of attention.heads 4"),
        ("tiny", {"stack": {"layer": 3}}, "did you mean 'layers'"),
        ("tiny", {"dropout": 1.0}, "dropout"),
        ("tiny", {"pooler": True}, "a decoder has an output layer, and no pooler"),
        ("tiny", {"embed": {"width": 64}}, "no pooler, embed.segments, embed.width"),
        ("tiny", {"head": {"transform": True}}, "these belong to an encoder"),
        ("tiny", {"position": {"kind": "rotary"}, "attention": {"head_width": 7}}, "even width"),
        ("tiny", {"position": {"kind": "rotary", "turned": 7}}, "position.turned is an even number"),
        ("tiny", {"position": {"kind": "rotary", "turned": 34}}, "at most those of a head"),
        ("tiny", {"stack": {"parallel": True}, "norm": {"place": "post"}}, "has its norms before"),
        ("tiny", {"norm": {"shared": True}}, "is of parallel layers"),
        ("tiny", {"attention": {"windows": [4]}, "stack": {"shared": True}}, "whose layers aren't shared"),
        ("tiny", {"attention": {"windows": [-4]}}, "attention.windows"),
        ("tiny", {"position": {"buckets": 3}}, "position.buckets is at least 4"),
        ("tiny", {"head": "none"}, "head is a section"),
    ],
)
def test_a_wrong_setting_says_what_to_change(size, changes, said):
    with pytest.raises(ConfigError, match=said):
        transformer.config_for("gpt", size, 10, 8, changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embed": {"width": 64}, "head": {"transform": False}}, "needs head.transform"),
        ({"head": {"width": 64}}, "isn't tied"),
        ({"attention": {"windows": [4]}}, "are of a decoder"),
    ],
)
def test_a_wrong_setting_of_an_encoder_says_what_to_change(changes, said):
    with pytest.raises(ConfigError, match=said):
        transformer.config_for("bert", "tiny", 10, 8, changes)


def test_changes_win_and_one_dropout_is_all_three():
    config = transformer.config_for("gpt", "mini", 10, 8, {"dropout": 0.1, "stack": {"layers": 1, "dropout": 0.2}})
    assert (config.stack.layers, config.stack.width) == (1, 256)
    assert (config.embed.dropout, config.attention.dropout, config.stack.dropout) == (0.1, 0.1, 0.2)


def test_the_start_is_gpt2s():
    model = make("mini", vocab=500, context=64)
    layer = model.layers[1]
    for weight, std in (
        (model.tokens.weight, 0.02),
        (layer.attention.qkv.weight, 0.02),
        (layer.attention.out.weight, 0.02 / math.sqrt(8)),
        (layer.feed_forward.down.weight, 0.02 / math.sqrt(8)),
    ):
        assert abs(float(weight.detach().std()) / std - 1) < 0.03
    assert (layer.attention.qkv.bias == 0).all()
    assert (layer.attention_norm.weight == 1).all()


def test_the_start_of_an_encoder_is_berts():
    """N(0, init.std) everywhere: each standard deviation is of at least 128 x 128 draws, so 4 % are seven of its own."""
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("bert", "tiny", 500, 128, {"init": {"std": 0.05}}))
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() == 2}
    assert len(found) == 2 * 4 + 2 + 3  # of the layers, pooler and transform, tables
    for name, weight in found.items():
        if name != "segments.weight":  # two rows
            assert abs(float(weight.detach().std()) / 0.05 - 1) < 0.04, name
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_an_encoder_without_an_output_layer_says_so():
    config = transformer.config_for("bert", "tiny", 10, 8, {}).model_copy(update={"head": None})
    model = transformer.build(config).eval()
    states = model(Tokens.of([[1, 2, 3]])).states
    with pytest.raises(ConfigError, match="no output layer"):
        model.logits(states)
    with pytest.raises(ConfigError, match="no output layer"):
        model.target_log_probs(states, torch.tensor([0]), torch.tensor([1]))


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize(("ours", "theirs"), [("gelu", "gelu"), ("relu", "relu")])
def test_a_layer_is_torchs_encoder_layer(place, ours, theirs):
    """Both orders of norm and residual, against torch's own layer with the same weights and a causal mask."""
    model = make(feed_forward={"activation": ours}, norm={"place": place, "final": False}, stack={"layers": 1}).eval()
    layer = model.layers[0]
    reference = torch.nn.TransformerEncoderLayer(
        128, 4, 512, dropout=0.0, activation=theirs, batch_first=True, norm_first=place == "pre"
    )
    pairs = {
        "self_attn.in_proj_weight": layer.attention.qkv.weight,
        "self_attn.in_proj_bias": layer.attention.qkv.bias,
        "self_attn.out_proj.weight": layer.attention.out.weight,
        "self_attn.out_proj.bias": layer.attention.out.bias,
        "linear1.weight": layer.feed_forward.up.weight,
        "linear1.bias": layer.feed_forward.up.bias,
        "linear2.weight": layer.feed_forward.down.weight,
        "linear2.bias": layer.feed_forward.down.bias,
        "norm1.weight": layer.attention_norm.weight,
        "norm1.bias": layer.attention_norm.bias,
        "norm2.weight": layer.feed_forward_norm.weight,
        "norm2.bias": layer.feed_forward_norm.bias,
    }
    with torch.no_grad():
        for parameter in pairs.values():
            parameter.normal_(std=0.3)
        reference.load_state_dict(pairs)
        hidden = model(Tokens.of(torch.arange(20).view(2, 10)), keep=(0,))
        mask = torch.nn.Transformer.generate_square_subsequent_mask(10)
        expected = reference.train()(hidden.layers[0].view(2, 10, 128), src_mask=mask).flatten(0, 1)
        torch.testing.assert_close(hidden.states, expected, atol=1e-4, rtol=1e-4)


def test_kept_layers_come_in_the_order_asked():
    model = make(norm={"final": False}).eval()
    hidden = model(Tokens.of([[1, 2, 3]]), keep=(2, 0))
    assert torch.equal(hidden.layers[0], hidden.states)
    assert torch.equal(hidden.layers[1], model.tokens.weight[1:4] + model.positions.weight[:3])


def test_segments_are_all_0_unless_given():
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("bert", "tiny", 10, 8, {})).eval()
    tokens = Tokens.of([[1, 2, 3], [4, 5]])
    zeros, ones = (replace(tokens, segments=torch.full((5,), each)) for each in (0, 1))
    torch.testing.assert_close(model(tokens).states, model(zeros).states)
    assert not torch.allclose(model(tokens).states, model(ones).states)


def test_sinusoids_are_those_of_the_paper():
    for layout in ("interleaved", "halves"):
        table = sinusoids(50, 6, 10000.0, layout)
        for t in (0, 1, 7, 49):
            waves = [(math.sin(t / 10000 ** (2 * i / 6)), math.cos(t / 10000 ** (2 * i / 6))) for i in range(3)]
            pairs = [x for pair in waves for x in pair]
            expected = pairs if layout == "interleaved" else pairs[0::2] + pairs[1::2]
            torch.testing.assert_close(table[t], torch.tensor(expected), atol=1e-7, rtol=0)


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_rotary_products_depend_on_the_distance_alone(layout):
    """And they are those of complex numbers: the pair (a, b) of position t is (a + ib) e^(it theta_i)."""
    position = Position(kind="rotary", layout=layout, max=64)
    rotary, turn = Rotary(position, 8), turning(position)
    q, k, v = (torch.randn(1, 1, 8, dtype=torch.float64) for _ in range(3))

    def product(i, j):
        turned = [turn(x, x, v, rotary(torch.tensor([at]))) for x, at in ((q, i), (k, j))]
        assert torch.equal(turned[0][2], v)
        return float((turned[0][0] * turned[1][1]).sum())

    even = (lambda x: x[0::2]) if layout == "interleaved" else (lambda x: x[:4])
    odd = (lambda x: x[1::2]) if layout == "interleaved" else (lambda x: x[4:])
    first, second = (torch.complex(even(x.flatten()), odd(x.flatten())) for x in (q, k))
    for i, j in ((3, 3), (5, 2), (60, 57), (0, 9)):
        angles = torch.tensor([10000 ** (-2 * n / 8) for n in range(4)], dtype=torch.float64) * (i - j)
        expected = float((first * second.conj() * torch.polar(torch.ones(4, dtype=torch.float64), angles)).real.sum())
        assert product(i, j) == pytest.approx(expected, abs=1e-5)


def test_rotary_values_turn_when_asked():
    position = Position(kind="rotary", on_values=True, max=8)
    x = torch.randn(1, 1, 4)
    q, _, v = turning(position)(x, x, x, Rotary(position, 4)(torch.tensor([3])))
    assert torch.equal(q, v)
    assert not torch.equal(v, x)


@pytest.mark.parametrize(
    "changes",
    [
        {"position": {"kind": "sinusoidal"}},
        {"position": {"kind": "rotary"}},
        {"position": {"kind": "rotary", "layout": "halves", "on_values": True}},
        {"position": {"kind": "none"}},
        {"position": {"offset": 2}},
        {"stack": {"shared": True}},
        {"stack": {"layer_drop": 0.5}},
        {"attention": {"head_width": 16}},
        {"norm": {"place": "post", "embedding": True, "final": False}},
        {"norm": {"kind": "rms"}, "feed_forward": {"gated": True}, "embed": {"scaled": True}},
        {"position": {"kind": "sinusoidal", "layout": "halves", "stretched": True, "offset": 2}},
        {
            "position": {"kind": "rotary", "turned": 4},
            "stack": {"parallel": True},
            "norm": {"place": "pre", "shared": True},
        },
        {
            "position": {"kind": "none", "buckets": 8, "distance": 6},
            "stack": {"parallel": True},
            "norm": {"place": "pre"},
        },
        {"attention": {"bias": False, "out_bias": True, "windows": [0, 3]}, "head": {"bias": True}},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_every_setting_reads_batches_as_sequences_and_decoders_step_by_step(family, changes):
    if family == "bert" and "windows" in changes.get("attention", {}):
        pytest.skip("encoders have no windows")
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for(family, "tiny", 31, 24, changes)).eval()
    sequences = [torch.randint(0, 31, (length,)).tolist() for length in (9, 4, 9)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        whole = model(Tokens.of(sequences)).states
        alone = torch.cat([model(Tokens.of([each])).states for each in sequences])
        torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-5)
        if family == "gpt":
            _, state = model.extend(Tokens.of([each[:3] for each in sequences]), None)
            logits, _ = model.extend(Tokens.of([each[3:] for each in sequences]), state)
            last = Tokens.of(sequences).fences.last()
            torch.testing.assert_close(logits, model.logits(whole[last]), atol=1e-5, rtol=1e-5)
            _, state = model.extend(Tokens.of([each[:3] for each in (sequences[0], sequences[2])]), None)
            for step in range(3, 9):
                logits, state = model.extend(Tokens.of([[sequences[0][step]], [sequences[2][step]]]), state)
            torch.testing.assert_close(logits, model.logits(whole[last[[0, 2]]]), atol=1e-5, rtol=1e-5)
        else:
            for at, counts in (([1, 8, 15, 16], (2, 0, 2)), ([0, 9, 13], (1, 1, 1))):
                chosen = model.states_at(Tokens.of(sequences), torch.tensor(at), counts)
                torch.testing.assert_close(chosen, whole[at], atol=1e-5, rtol=1e-5)


def test_sinusoids_of_fairseq_are_stretched_and_begin_later():
    """fairseq: halves, the i-th angle t / theta^(i / (D/2 - 1)), the first token at the place after padding's."""
    rows = Sinusoidal(Position(kind="sinusoidal", layout="halves", stretched=True, offset=2, max=9), 6)(torch.arange(9))
    for t in range(9):
        angles = [(t + 2) / 10000 ** (i / 2) for i in range(3)]
        wanted = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(rows[t], torch.tensor(wanted), atol=1e-6, rtol=0)


def test_a_window_is_as_wide_as_it_says():
    """Through a window of 3 a change reaches its own place and the two after it."""
    model = make(attention={"windows": [3]}, stack={"layers": 1}).eval()
    ids = torch.randint(0, 31, (12,)).tolist()
    states = model(Tokens.of([ids])).states
    for changed, last in ((0, 2), (5, 7)):
        other = model(Tokens.of([[*ids[:changed], (ids[changed] + 1) % 31, *ids[changed + 1 :]]])).states
        differ = ((states - other).abs().amax(1) > 0).nonzero().flatten().tolist()
        assert differ == list(range(changed, last + 1))


@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_without_positions_the_order_of_words_changes_nothing_in_an_encoder(family):
    """A decoder without them still sees order: a token sees those before it."""
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for(family, "tiny", 31, 24, {"position": {"kind": "none"}})).eval()
    states, turned = (model(Tokens.of([ids])).states for ids in ([1, 2, 3, 4], [4, 3, 2, 1]))
    assert torch.allclose(states, turned.flip(0), atol=1e-6) == (family == "bert")


def test_whole_layers_are_dropped_in_training_alone():
    """Of 400 layers each is left out with p = 1/4: 100 of them, give or take 8.7; the test allows five times that."""
    model = make(stack={"layers": 4, "layer_drop": 0.25}).train()
    tokens = Tokens.of([[1, 2, 3]])
    torch.manual_seed(0)
    dropped = 0
    for _ in range(100):
        kept = model(tokens, keep=(0, 1, 2, 3, 4)).layers
        dropped += sum(torch.equal(one, other) for one, other in itertools.pairwise(kept))
    assert abs(dropped - 100) < 44
    whole = model.eval()(tokens, keep=(0, 1, 2, 3, 4)).layers
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(whole))


def test_flops_are_those_that_torch_counts(monkeypatch):
    monkeypatch.setattr(linear, "_fused", None)  # torch doesn't count what oneDNN's product does
    model = make(vocab=300, context=64)
    tokens = Tokens.of(torch.randint(0, 300, (4, 64)))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.logits(model(tokens).states).sum().backward()
    assert counter.get_total_flops() / (4 * 64) == pytest.approx(model.flops_per_token(64), rel=0.01)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 16 * 4 * 31, 1 << 20])
def test_the_chunked_head_is_cross_entropy(monkeypatch, weighted, bias, chunk):
    monkeypatch.setattr(head, "CHUNK_BYTES", chunk)
    torch.manual_seed(0)
    states = torch.randn(50, 8, requires_grad=True)
    weight = torch.randn(31, 8, requires_grad=True)
    offset = torch.randn(31, requires_grad=True) if bias else None
    at, ids = torch.randint(0, 50, (40,)), torch.randint(0, 31, (40,))
    factors = torch.rand(40) if weighted else torch.ones(())
    inputs = [x for x in (states, weight, offset) if x is not None]

    ours = head.target_log_probs(states, at, ids, weight, offset)
    got = torch.autograd.grad((ours * factors).sum(), inputs)
    logits = F.linear(states[at], weight, offset)
    expected = -F.cross_entropy(logits, ids, reduction="none")
    wanted = torch.autograd.grad((expected * factors).sum(), inputs)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_head_trains_only_what_is_asked():
    states, weight = torch.randn(5, 4), torch.randn(7, 4, requires_grad=True)
    ids = torch.arange(5)
    head.target_log_probs(states, ids, ids, weight).sum().backward()
    assert weight.grad is not None
    states.requires_grad_()
    head.target_log_probs(states, ids, ids, weight.detach()).sum().backward()
    assert states.grad is not None
    with torch.no_grad():
        assert not head.target_log_probs(states, ids, ids, weight).requires_grad
    assert head.target_log_probs(states, ids[:0], ids[:0], weight).shape == (0,)


class Largest(TorchDispatchMode):
    """Remembers the most elements that any result had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_the_matrix_of_all_logits_is_never_made(monkeypatch):
    monkeypatch.setattr(head, "CHUNK_BYTES", 64 * 1000 * 4)
    states = torch.randn(2000, 8, requires_grad=True)
    weight = torch.randn(1000, 8, requires_grad=True)
    at = torch.arange(2000)
    with Largest() as largest:
        head.target_log_probs(states, at, at.remainder(1000), weight).sum().backward()
    assert largest.elements <= 64 * 1000


def test_autocast_makes_the_products_in_bf16_and_stays_near():
    model = make(vocab=50)
    tokens = Tokens.of(torch.randint(0, 50, (3, 20)))
    at, ids = torch.arange(60), torch.randint(0, 50, (60,))
    exact = model.target_log_probs(model(tokens).states, at, ids)
    with torch.autocast("cpu", torch.bfloat16):
        near = model.target_log_probs(model(tokens).states, at, ids)
    assert near.dtype == torch.float32
    near.sum().backward()
    assert model.tokens.weight.grad.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.05


def test_dropout_is_off_in_evaluation_and_repeats_with_its_seed():
    model = make(dropout=0.2)
    tokens = Tokens.of([[1, 2, 3, 4], [5, 6, 7]])
    plain = make()(tokens).states
    assert torch.equal(model.eval()(tokens).states, plain)
    model.train()
    torch.manual_seed(5)
    first = model(tokens).states
    assert not torch.equal(first, model(tokens).states)
    torch.manual_seed(5)
    assert torch.equal(first, model(tokens).states)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_a_share_p_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(2001, 501, requires_grad=True)
    out = Dropout(p)(x)
    deviation = math.sqrt(p * (1 - p) / x.numel())
    assert abs(float((out == 0).float().mean()) - p) < 4 * deviation + 2**-16
    assert abs(float(out.detach().mean()) - 1) < 5 * deviation / (1 - p)
    assert len(out.detach().unique()) == 2
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # what was dropped gets no gradient, the rest the same factor
    rows = (out.detach() == 0).float()
    assert abs(float(torch.corrcoef(torch.stack([rows[:-1].flatten(), rows[1:].flatten()]))[0, 1])) < 0.01


def test_masks_of_neighbours_and_of_other_seeds_are_unrelated():
    """Fixed seeds, so it can't flake. Correlations of n independent elements have a deviation of 1 / sqrt(n)."""
    size = 1 << 16
    seeds = (0, 1, 2, -1, 1 << 32, (1 << 32) + 1, 0x9E3779B9, 123456789012345678)
    masks = torch.stack([-keep_mask(size, 0.1, seed).float() for seed in seeds])
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert (masks.mean(1) - kept_share(0.1)).abs().max() < 4 * (0.09 / size) ** 0.5
    units = (masks - kept_share(0.1)) / 0.3
    between = units @ units.t() / size
    assert (between - torch.diag(between.diag())).abs().max() < 4 / size**0.5
    for lag in (1, 2, 3, 4, 5, 8, 16, 64, 100, 256, 768, 1024):
        assert (units[:, lag:] * units[:, :-lag]).mean(1).abs().max() < 4.5 / size**0.5
    assert torch.equal(keep_mask(33, 0.1, 5), keep_mask(size, 0.1, 5)[:33])


def test_dropout_of_odd_sizes_and_types():
    for shape in ((), (1,), (3,), (5, 7), (0, 4)):
        assert dropout(torch.ones(shape), 0.5, True).shape == shape
    assert dropout(torch.ones(9, dtype=torch.bfloat16), 0.5, True).dtype == torch.bfloat16
    x = torch.ones(4)
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x


def test_the_cache_grows_and_stops_at_the_context():
    model = make(context=200).eval()
    ids = torch.randint(0, 31, (200,)).tolist()
    with torch.no_grad():
        whole = model.logits(model(Tokens.of([ids])).states)
        logits, state = model.extend(Tokens.of([ids[:60]]), None)
        for position in range(60, 200):
            logits, state = model.extend(Tokens.of([ids[position : position + 1]]), state)
            assert torch.allclose(logits[0], whole[position], atol=1e-5)
        with pytest.raises(ConfigError, match="201 tokens and the model reads at most 200"):
            model.extend(Tokens.of([[0]]), state)
        with pytest.raises(ConfigError, match="at most 200"):
            model(Tokens.of([[*ids, 0]]))
        with pytest.raises(ConfigError, match="at most 200"):
            model.extend(Tokens.of([[*ids, 0]]), None)
