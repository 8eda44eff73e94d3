"""The Transformer's parts: shapes and counts, norms in both places, the chunked head, dropout and the cache."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.models import transformer
from vocablo.nn import head
from vocablo.nn.dropout import Dropout, dropout


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
    ("size", "changes", "said"),
    [
        ("larg", {}, "did you mean 'large'"),
        ("tiny", {"stack": {"width": 126}}, "isn't a multiple of attention.heads 4"),
        ("tiny", {"stack": {"layer": 3}}, "did you mean 'layers'"),
        ("tiny", {"dropout": 1.0}, "dropout"),
    ],
)
def test_a_wrong_setting_says_what_to_change(size, changes, said):
    with pytest.raises(ConfigError, match=said):
        transformer.config_for("gpt", size, 10, 8, changes)


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


def test_flops_are_those_that_torch_counts():
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
