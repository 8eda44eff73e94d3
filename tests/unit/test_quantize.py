"""Compact weights: the native products and steps against torch, what rounding costs, and what is refused."""

import copy
import os
import time

import pytest
import torch
import torch.nn.functional as F

import tiny_models
from vocablo import api, checkpoint
from vocablo.base.errors import ConfigError
from vocablo.contract import Fences, Tokens
from vocablo.inference.generate import GenerateSettings, generate
from vocablo.inference.score import perplexity
from vocablo.models import rnn, transformer
from vocablo.nn import native
from vocablo.nn.cache import KeyValueCache
from vocablo.nn.quantize import CompactLinear, quantize, rounded
from vocablo.nn.stepping import Step

DTYPES = ("bf16", "int8")
SHAPES = [(1, 1), (3, 5), (16, 64), (17, 63), (50, 65), (130, 96), (257, 769), (64, 3072)]
VOCAB = 43


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def _compiled(tmp_path_factory):
    if native._compiler() is None:
        pytest.skip("no C++ compiler")
    assert native.library() is not None


with_native = pytest.mark.usefixtures("_compiled")


def random(*shape, seed=0, std=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def gpt(width=16, heads=2, layers=2, **changes):
    given = {"stack": {"layers": layers, "width": width}, "attention": {"heads": heads}, **changes}
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("gpt", "tiny", VOCAB, 24, given)).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.copy_(random(*parameter.shape, seed=number, std=0.4))
    return model


def compact(model, dtype):
    quantized = copy.deepcopy(model)
    quantize(quantized, dtype)
    return quantized


def ids(*lengths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCAB, (length,), generator=draw).tolist() for length in lengths]


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def without_native(monkeypatch, work):
    with monkeypatch.context() as patch:
        patch.setenv("VOCABLO_NATIVE", "0")
        assert native.library() is None
        return work()


@with_native
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_native_products_are_those_of_the_widened_weights(dtype, shape, bias):
    linear = CompactLinear(random(*shape), random(shape[0], seed=1) if bias else None, dtype)
    for count in (1, 2, 3, 7, native.FEW):
        x = random(count, shape[1], seed=count)
        wanted = F.linear(x.double(), linear.weight.double(), None if linear.bias is None else linear.bias.double())
        found = linear(x).double()
        # Inputs of int8 products are rounded to steps of their largest over 32767: six deviations of such errors.
        step = x.abs().amax(1, keepdim=True) / 32767
        bound = 6 / 12**0.5 * step * linear.weight.double().norm(dim=1) + 1e-4
        assert ((found - wanted).abs() <= bound).all()
        assert relative(linear.by_torch(x).double(), wanted) < 1e-5


@with_native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_numbers(threads):
    linear = CompactLinear(random(2000, 100), None, "int8")
    x = random(5, 100)
    alone = linear(x)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(linear(x), alone)
    finally:
        torch.set_num_threads(before)


@with_native
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_inputs_of_any_size(value):
    linear = CompactLinear(random(20, 70), None, "int8")
    x = torch.full((1, 70), value)
    torch.testing.assert_close(linear(x), F.linear(x, linear.weight), rtol=1e-3, atol=0)


def test_a_row_is_rounded_to_half_a_step():
    weight = random(30, 50) * torch.logspace(-3, 3, 30)[:, None]
    weight[3] = 0
    held, scale = rounded(weight)
    assert held.dtype == torch.int8
    assert ((held * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()
    assert (held.abs().amax(1)[[0, 1, 2, 4]] == 127).all()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("native_too", [True, False])
def test_scores_stay_near_those_of_all_bits(tied, native_too, monkeypatch, request):
    if native_too:
        request.getfixturevalue("_compiled")
    else:
        monkeypatch.setenv("VOCABLO_NATIVE", "0")
    model = gpt(width=64, heads=4, head={"tied": tied})
    tokens = Tokens.of(ids(9, 4))
    wanted = model.logits(model.forward(tokens).states)
    errors = {}
    for dtype in DTYPES:
        quantized = compact(model, dtype)
        errors[dtype] = relative(quantized.logits(quantized.forward(tokens).states), wanted)
    assert 0 < errors["bf16"] < errors["int8"] < 0.05


@with_native
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": 24, "heads": 3, "head": {"tied": False}},
        {"norm": {"bias": False, "final": False}, "attention": {"heads": 2, "bias": False, "scaled": False}},
        {"feed_forward": {"activation": "gelu", "width": 37, "bias": False}},
        {"feed_forward": {"activation": "relu"}},
        {"feed_forward": {"activation": "silu"}},
    ],
    ids=str,
)
def test_a_step_is_what_the_modules_do(dtype, changes, monkeypatch):
    quantized = compact(gpt(**changes), dtype)
    assert quantized.step is not None

    def read():
        """A prompt of unequal lengths, a longer piece, single tokens."""
        found, state = [], None
        for lengths in ((5, 1, 3), (2, 4, 1), (1, 1, 1), (1, 1, 1)):
            logits, state = quantized.extend(Tokens.of(ids(*lengths)), state)
            found.append(logits)
        return torch.stack(found), state

    (one, cache), (other, cache2) = read(), without_native(monkeypatch, read)
    assert relative(one, other) < 1e-3
    assert cache.lengths == cache2.lengths == (9, 7, 6)
    for b, length in enumerate(cache.lengths):
        for a, c in zip(cache.keys + cache.values, cache2.keys + cache2.values, strict=True):
            torch.testing.assert_close(a[b, :length], c[b, :length], atol=5e-3, rtol=5e-3)


@with_native
def test_a_state_can_go_from_one_path_to_the_other(monkeypatch):
    quantized = compact(gpt(), "bf16")
    first, second = Tokens.of(ids(6)), Tokens.of([[5]])
    _, state = quantized.extend(first, None)
    rows = torch.tensor([0, 0])
    wanted, _ = quantized.extend(Tokens.of([[5], [5]]), state.select(rows))
    found, _ = without_native(monkeypatch, lambda: quantized.extend(second, state))
    assert relative(found, wanted[1:]) < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("native_too", [True, False])
def test_cached_and_uncached_reading_agree(dtype, native_too, monkeypatch, request):
    if native_too:
        request.getfixturevalue("_compiled")
    else:
        monkeypatch.setenv("VOCABLO_NATIVE", "0")
    text = ids(20)[0]
    for model in (gpt(), gpt(head={"bias": True}), tiny_models.lstm(VOCAB)):
        quantized = compact(model, dtype)
        wanted = quantized.logits(quantized.forward(Tokens.of([text])).states)
        state, found = None, []
        for begin, end in [(0, 7), *((i, i + 1) for i in range(7, 20))]:
            logits, state = quantized.extend(Tokens.of([text[begin:end]]), state)
            found.append(logits)
        assert relative(torch.cat(found), wanted[6:]) < 1e-3


@with_native
@pytest.mark.parametrize(
    "unknown",
    [
        {"norm": {"place": "post"}},
        {"norm": {"embedding": True}},
        {"position": {"kind": "sinusoidal"}},
        {"position": {"kind": "rotary"}},
        {"position": {"kind": "none"}},
        {"stack": {"shared": True}},
        {"attention": {"head_width": 16}},
        {"attention": {"windows": [0, 4]}},
        {"head": {"bias": True}},
        {"feed_forward": {"gated": True}},
    ],
    ids=str,
)
def test_what_the_step_does_not_know_is_left_to_the_modules(unknown):
    model = compact(gpt(**unknown), "int8")
    assert model.step is None
    text = ids(12)[0]
    wanted = model.logits(model.forward(Tokens.of([text])).states)
    _, state = model.extend(Tokens.of([text[:7]]), None)
    logits, _ = model.extend(Tokens.of([text[7:]]), state)
    assert relative(logits, wanted[-1:]) < 1e-3


@with_native
def test_a_step_does_not_know_settings_that_are_new_to_it():
    model = compact(gpt(), "int8")
    assert Step.of(model) is not None
    dumped = model.config.model_dump()
    dumped["attention"]["groups"] = 1

    class Config:
        def model_dump(self, **_):
            return dumped

    model.config = Config()
    assert Step.of(model) is None


@with_native
def test_the_context_is_the_limit_here_as_well():
    model = compact(gpt(), "int8")
    _, state = model.extend(Tokens.of(ids(24)), None)
    with pytest.raises(ConfigError, match="25 tokens"):
        model.extend(Tokens.of([[1]]), state)


@with_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_greedy_text_is_the_same_without_native(dtype, monkeypatch):
    tokenizer = tiny_models.kind("word")
    quantized = compact(tiny_models.gpt(tokenizer.size, tied=True), dtype)
    settings = GenerateSettings(max_tokens=20, temperature=0, samples=2)
    one = generate(quantized, tokenizer, "el gato", settings)
    other = without_native(monkeypatch, lambda: generate(quantized, tokenizer, "el gato", settings))
    assert [sample.text for sample in one] == [sample.text for sample in other]
    assert one[0].log_prob == pytest.approx(other[0].log_prob, rel=1e-3)


def test_every_family_is_scored_nearly_as_before():
    tokenizer = tiny_models.kind("word")
    for model in (tiny_models.gpt(tokenizer.size), tiny_models.lstm(tokenizer.size), tiny_models.counted(tokenizer)):
        wanted = perplexity(model, tokenizer, tiny_models.TEXTS)
        for dtype in DTYPES:
            quantized = compact(model, dtype)
            assert perplexity(quantized, tokenizer, tiny_models.TEXTS).perplexity == pytest.approx(
                wanted.perplexity, rel=0.05
            )


def test_a_tied_recurrent_model_looks_up_all_bits_and_multiplies_few():
    config = rnn.config_for(
        "gru", "tiny", VOCAB, 16, {"head": {"tied": True}, "stack": {"width": 12}, "embed": {"width": 12}}
    )
    model = rnn.build(config).eval()
    quantized = compact(model, "int8")
    assert torch.equal(quantized.tokens.weight, model.tokens.weight)
    assert isinstance(quantized.head, CompactLinear)


def test_weights_take_the_room_that_they_should():
    size = lambda model: sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})  # noqa: E731
    model = gpt(width=256, heads=4)
    assert size(compact(model, "bf16")) < 0.55 * size(model)
    assert size(compact(model, "int8")) < 0.30 * size(model)


def test_a_copy_reads_its_own_weights():
    model = compact(gpt(), "int8")
    prompt = Tokens.of(ids(3))
    wanted = model.extend(prompt, None)[0].clone()
    again = copy.deepcopy(model)
    model.head.weights.zero_()
    assert torch.equal(again.extend(prompt, None)[0], wanted)


@pytest.mark.parametrize("make", [gpt, lambda: tiny_models.lstm(VOCAB)], ids=["gpt", "lstm"])
def test_training_and_saving_are_refused(make, tmp_path):
    model = make()
    quantized = compact(model, "int8")
    assert not any(parameter.requires_grad for parameter in quantized.parameters())
    with pytest.raises(ConfigError, match="can't be trained"):
        quantized.train()
    with pytest.raises(ConfigError, match="can't be saved"):
        checkpoint.save(tmp_path / "model", quantized)
    with pytest.raises(ConfigError, match="compact already"):
        quantize(quantized, "bf16")
    with pytest.raises(ConfigError, match="did you mean 'int8'"):
        quantize(model, "int4")


def test_a_folder_loads_compact_and_is_not_changed(tmp_path):
    tokenizer = tiny_models.kind("word")
    checkpoint.save(tmp_path / "model", tiny_models.gpt(tokenizer.size, tied=True), tokenizer)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    full = api.load(tmp_path / "model").score("el gato come pan .")[0].log_prob
    for dtype in DTYPES:
        assert api.load(tmp_path / "model", dtype=dtype).score("el gato come pan .")[0].log_prob == pytest.approx(
            full, rel=0.02
        )
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


@with_native
def test_the_library_is_built_once_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = native._compiler()
    path = native._built(compiler)
    assert path.parent == tmp_path / "vocablo"
    assert [path] == list(path.parent.iterdir())
    made = path.stat().st_mtime_ns
    assert native._built(compiler) == path
    assert path.stat().st_mtime_ns == made


def test_without_a_compiler_there_is_one_note_and_the_same_text(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    native._library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
            assert native.library() is None
        logits, state = compact(gpt(), "int8").extend(Tokens.of(ids(4)), None)
        assert logits.shape == (1, VOCAB)
        assert isinstance(state, KeyValueCache)
    finally:
        native._library.cache_clear()


def test_a_failed_build_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'error: out of order' >&2\nexit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="out of order"):
            assert native.library() is None
        assert list((tmp_path / "cache" / "vocablo").iterdir()) == []
    finally:
        native._library.cache_clear()


@with_native
@pytest.mark.parametrize("flags", [("-mno-avx512f",), ("-mno-avx512vnni",), ("-mno-avx", "-mno-avx512f")], ids=str)
def test_processors_with_less_give_the_same_numbers(flags, tmp_path, monkeypatch):
    if native.platform.machine() != "x86_64":
        pytest.skip("flags of x86")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    quantized = {dtype: compact(gpt(width=96, heads=2), dtype) for dtype in DTYPES}
    text = Tokens.of(ids(6))
    wanted = {dtype: model.extend(text, None)[0] for dtype, model in quantized.items()}
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-O1", *flags))  # -O1 is compiled in a fraction of the time
    native._library.cache_clear()
    try:
        for dtype, model in quantized.items():
            assert relative(model.extend(text, None)[0], wanted[dtype]) < 1e-3
        assert native.library() is not None
    finally:
        native._library.cache_clear()


def test_fences_of_nothing_go_to_the_modules():
    model = compact(gpt(), "bf16")
    assert model.step(Tokens(torch.tensor([1, 2]), Fences.of([2, 0]), torch.tensor([0, 1])), None) is None


@with_native
@pytest.mark.parametrize("count", [33, 64, 65, 200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_inputs_give_what_each_alone_gives(dtype, count):
    linear = CompactLinear(random(50, 100), random(50, seed=1), dtype)
    x = random(count, 100, seed=2)
    alone = torch.cat([linear(row[None]) for row in x])
    torch.testing.assert_close(linear(x), alone, atol=1e-4, rtol=1e-5)


@with_native
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_does_not_come_out_as_a_number(dtype, value):
    x = random(2, 70)
    x[1, 3] = value
    found = CompactLinear(random(20, 70), None, dtype)(x)
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="NaN or infinite"):
        CompactLinear(torch.tensor([[1.0, float("nan")]]), None, "int8")
    with pytest.raises(ConfigError, match="use bf16"):
        CompactLinear(torch.ones(1, (1 << 16) + 1), None, "int8")


@with_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_works_alone():
    """Its parent's threads aren't there: waiting for them would never end."""
    linear, x = CompactLinear(random(300, 64), None, "int8"), random(3, 64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = linear(x)
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(linear(x), wanted) else 1)
        end = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert ended == (child, 0)
    finally:
        torch.set_num_threads(before)
