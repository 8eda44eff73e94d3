"""Properties of every family that reads a source and a target."""

import pytest
import torch

from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.errors import ConfigError
from vocablo.contract import DecodeState, LeftModel, SourceTargetModel, Tokens

MODELS = "vocablo.models"
FILES = registry.owners(MODELS, "FAMILIES")
FAMILIES = ["transformer", "seq2seq-rnn"]  # the test of the contract finds one that is missing here
VOCAB, SOURCE_VOCAB, CONTEXT = 19, 23, 16
LENGTHS = ([4, 11, 1, 4, 16], [7, 2, 16, 7, 1])  # of targets and of their sources


def made(family: str, **changes) -> SourceTargetModel:
    torch.manual_seed(0)
    module = registry.load(MODELS, FILES[family])
    side = {"decoder": {"vocab": VOCAB, "start": (1,)}}
    return module.build(module.config_for(family, "tiny", SOURCE_VOCAB, CONTEXT, {**side, **changes}))


@pytest.fixture(params=FAMILIES)
def model(request):
    """Random weights far from uniform, or mistakes would hide in rounding."""
    model = made(request.param).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    torch.set_grad_enabled(False)
    yield model
    torch.set_grad_enabled(True)


def some(vocab: int, lengths: list[int], seed: int = 0) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab, (length,), generator=draw).tolist() for length in lengths]


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def read(model, targets, sources) -> torch.Tensor:
    return model.logits(model.forward(Tokens.of(targets), Tokens.of(sources)).states)


def test_it_keeps_the_contract(model):
    assert isinstance(model, SourceTargetModel)
    assert model.reads == "source_target"
    assert (model.vocab, model.start) == (VOCAB, (1,))
    assert model.flops_per_token(CONTEXT) > 0


def test_no_family_is_left_out():
    modules = {name: registry.load(MODELS, file) for name, file in FILES.items()}
    with torch.device("meta"):
        reads = {
            name: module.build(module.config_for(name, "tiny", 9, 9, {})).reads for name, module in modules.items()
        }
    assert {name for name, what in reads.items() if what == "source_target"} == set(FAMILIES)


def test_a_batch_gives_what_each_pair_gives_alone(model):
    targets, sources = some(VOCAB, LENGTHS[0]), some(SOURCE_VOCAB, LENGTHS[1])
    alone = [read(model, [target], [source]) for target, source in zip(targets, sources, strict=True)]
    same(read(model, targets, sources), torch.cat(alone))


def test_log_probs_are_those_of_the_logits(model):
    states = model.forward(Tokens.of(some(VOCAB, [5, 3])), Tokens.of(some(SOURCE_VOCAB, [2, 6]))).states
    at, ids = torch.tensor([7, 0, 7]), torch.tensor([0, VOCAB - 1, 3])
    same(model.target_log_probs(states, at, ids), model.logits(states).log_softmax(1)[at, ids])


def test_later_tokens_change_nothing_before_them_and_every_source_token_changes_all(model):
    target, source = some(VOCAB, [9])[0], some(SOURCE_VOCAB, [7])[0]
    before = read(model, [target], [source])
    changed = [*target[:5], *((token + 1) % VOCAB for token in target[5:])]
    after = read(model, [changed], [source])
    same(before[:5], after[:5])
    assert not torch.equal(before[5:], after[5:])
    for at in range(7):
        other = [*source[:at], (source[at] + 1) % SOURCE_VOCAB, *source[at + 1 :]]
        assert ((read(model, [target], [other]) - before).abs().amax(1) > 1e-6).all()


def test_extending_step_by_step_is_reading_at_once(model):
    targets, sources = some(VOCAB, [6, 9, 2, 6]), some(SOURCE_VOCAB, [5, 1, 12, 5])
    whole = read(model, targets, sources)
    ends = Tokens.of(targets).fences.last()
    logits, state = model.extend(Tokens.of(targets), model.encode(Tokens.of(sources)))
    same(logits, whole[ends])
    assert isinstance(state, DecodeState)

    state = model.encode(Tokens.of(sources))
    logits, state = model.extend(Tokens.of([target[:1] for target in targets]), state)
    logits, state = model.extend(Tokens.of([target[1:2] for target in targets]), state)
    same(logits[2], whole[ends][2])
    state = state.select(torch.tensor([1, 0]))  # the others, and their sources, are gone
    logits, state = model.extend(Tokens.of([targets[1][2:8], targets[0][2:5]]), state)
    logits, state = model.extend(Tokens.of([targets[1][8:], targets[0][5:]]), state)
    same(logits, whole[ends][[1, 0]])


@pytest.mark.parametrize("rows", [[0, 0, 0, 1, 1, 1, 2, 2, 2], [2, 0, 1, 1, 0, 2, 2], [1, 1], [0, 2, 2, 2]])
def test_hypotheses_of_a_source_go_their_own_ways(model, rows):
    """Beams: equally many for each source in their order, and any others, with sources that nobody reads any more."""
    targets, sources = some(VOCAB, [3, 3, 3]), some(SOURCE_VOCAB, [4, 9, 6])
    _, state = model.extend(Tokens.of(targets), model.encode(Tokens.of(sources)))
    state = state.select(torch.tensor(rows))
    grown = [list(targets[row]) for row in rows]
    for step in range(3):
        new = [[(5 * number + 3 * step) % VOCAB] for number in range(len(rows))]
        grown = [[*old, *more] for old, more in zip(grown, new, strict=True)]
        logits, state = model.extend(Tokens.of(new), state)
        ends = Tokens.of(grown).fences.last()
        same(logits, read(model, grown, [sources[row] for row in rows])[ends])


def test_what_cant_be_read_is_said(model):
    good = Tokens.of([[1, 2]])
    with pytest.raises(ConfigError, match="needs a source for each target"):
        model.forward(good)
    with pytest.raises(ConfigError, match="Source 2 is empty"):
        model.encode(Tokens.of([[1], []]))
    if model.context is None:  # recurrent: any length
        return
    with pytest.raises(ConfigError, match="source has 17 tokens and the model reads at most 16"):
        model.encode(Tokens.of([[1] * 17]))
    with pytest.raises(ConfigError, match="target has 17 tokens and the model reads at most 16"):
        model.forward(Tokens.of([[1] * 17]), good)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shared", [True, False])
def test_saved_and_loaded_it_is_the_same_bit_for_bit(family, shared, tmp_path):
    model = made(family, **({"decoder": {"start": [1]}} if shared else {})).eval()
    assert model.vocab == (SOURCE_VOCAB if shared else VOCAB)
    checkpoint.save(tmp_path / "model", model)
    again = checkpoint.load(tmp_path / "model").model
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns(family):
    model = made(family).train()
    tokens, source = Tokens.of(some(VOCAB, [CONTEXT, 5])), Tokens.of(some(SOURCE_VOCAB, [4, CONTEXT]))
    at = torch.arange(tokens.fences.total - 1)
    hidden = model(tokens, source)
    model.target_log_probs(hidden.states, at, tokens.ids[1:]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith(".qkv.bias"):  # a softmax doesn't see what is added to all keys alike
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_steps_memorise_a_pair(family):
    """The loss of one pair falls to a fifth within 60 steps of Adam."""
    model = made(family).train()
    tokens, source = Tokens.of(some(VOCAB, [CONTEXT], seed=2)), Tokens.of(some(SOURCE_VOCAB, [9], seed=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    at, losses = torch.arange(CONTEXT - 1), []
    for _ in range(60):
        loss = -model.target_log_probs(model(tokens, source).states, at, tokens.ids[1:]).sum() / len(at)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5


def test_families_that_read_otherwise_arent_of_this_contract():
    module = registry.load(MODELS, "transformer")
    model = module.build(module.config_for("gpt", "tiny", VOCAB, CONTEXT, {}))
    assert isinstance(model, LeftModel)
    assert not isinstance(model, SourceTargetModel)
