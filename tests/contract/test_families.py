"""Properties that every family of ``models/`` has: found in the registry, so a new file is tested when it is there."""

from pathlib import Path

import pytest
import torch

from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.progress import Progress
from vocablo.contract import BothModel, DecodeState, LeftModel, Tokens, TwoWayModel
from vocablo.data.store import Store
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.recipe import SIZES

MODELS = "vocablo.models"
FILES = registry.owners(MODELS, "FAMILIES")
FAMILIES = sorted(FILES)
CONTEXT = 16
CONTRACTS = {"left": LeftModel, "both": BothModel, "two_way": TwoWayModel}
BOTH = [
    "bert",
    "bigru",
    "bilstm",
    "birnn",
]  # families that read both ways; the test of the contract finds one that is missing here
TWO_WAY = ["elmo"]  # families with a state of each direction
WORDS = ["word-vectors"]  # read no sequences: see tests/unit/test_word_vectors.py
DOCUMENTS = ["han"]  # predict no tokens: see tests/unit/test_han.py
PAIRS = ["transformer", "seq2seq-rnn"]  # read a source and a target: see test_source_target.py
READERS = sorted(set(FAMILIES) - {*WORDS, *DOCUMENTS, *PAIRS})
LEFT = sorted(set(READERS) - {*BOTH, *TWO_WAY})
GRADIENTS = [name for name in READERS if not registry.constant(MODELS, FILES[name], "COUNTED")]
TEXT = "el gato come pan .\nla gata come queso .\nel perro mira la luna y la luna mira el pan .\n" * 4


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> tuple[Tokenizer, Store]:
    folder = tmp_path_factory.mktemp("families")
    text: Path = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    tokenizer = Tokenizer.train("word", TEXT.splitlines())
    return tokenizer, Store.build([text], tokenizer, folder / "store", documents="line", workers=1, quiet=True)


def make(family: str, material: tuple[Tokenizer, Store]) -> LeftModel | BothModel | TwoWayModel:
    """A tiny model, fitted when it counts; in evaluation mode."""
    tokenizer, store = material
    module = registry.load(MODELS, FILES[family])
    torch.manual_seed(0)
    model = module.build(module.config_for(family, "tiny", tokenizer.size, CONTEXT, {}))
    if family not in GRADIENTS:
        with Progress("count", len(store.tokens), "tokens", quiet=True) as progress:
            model.fit(store, progress)
        return model
    return model.eval()


@pytest.fixture
def model(request, material):
    torch.set_grad_enabled(False)
    yield make(request.param, material)
    torch.set_grad_enabled(True)


every = pytest.mark.parametrize("model", READERS, indirect=True)
left = pytest.mark.parametrize("model", LEFT, indirect=True)
both = pytest.mark.parametrize("model", BOTH, indirect=True)
whole = pytest.mark.parametrize("model", [*BOTH, *TWO_WAY], indirect=True)
two_way = pytest.mark.parametrize("model", TWO_WAY, indirect=True)


def some(model: LeftModel | BothModel | TwoWayModel, lengths: list[int], seed: int = 0) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(0, model.vocab, (length,), generator=draw).tolist() for length in lengths]


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_sizes_are_read_without_importing(family):
    assert registry.constant(MODELS, FILES[family], "FAMILIES")[family]
    assert list(registry.constant(MODELS, FILES[family], "SIZES")) == list(SIZES)


@every
def test_it_keeps_the_contract(model):
    assert isinstance(model, CONTRACTS[model.reads])
    assert isinstance(model, LeftModel) == (model.reads == "left")
    assert model.context is None or model.context >= CONTEXT
    assert isinstance(model.carries, bool)
    assert model.flops_per_token(CONTEXT) >= 0


@every
def test_a_state_for_every_token(model):
    sequences = some(model, [5, 1, 9])
    tokens = Tokens.of(sequences)
    hidden = model.forward(tokens)
    assert hidden.states.shape[0] == 15
    logits = model.logits(hidden.states)
    assert logits.shape == (15, model.vocab)
    at = torch.tensor([3, 0, 14, 3])
    ids = torch.tensor([1, 0, model.vocab - 1, 2])
    same(model.target_log_probs(hidden.states, at, ids), logits.log_softmax(1)[at, ids])


@every
def test_probabilities_sum_to_one(model):
    logits = model.logits(model.forward(Tokens.of(some(model, [7]))).states)
    same(logits.softmax(1).sum(1), torch.ones(7))
    ids = torch.arange(model.vocab)
    states = model.forward(Tokens.of(some(model, [7]))).states
    told = model.target_log_probs(states, torch.full_like(ids, 6), ids)
    same(told.exp().sum(), torch.ones(()))


@every
def test_a_batch_gives_what_each_sequence_gives_alone(model):
    sequences = some(model, [4, 11, 1, 4, 16])
    together = model.logits(model.forward(Tokens.of(sequences)).states)
    alone = [model.logits(model.forward(Tokens.of([sequence])).states) for sequence in sequences]
    same(together, torch.cat(alone))


@left
def test_later_tokens_change_nothing_before_them(model):
    sequence = some(model, [12])[0]
    changed = sequence[:7] + [(token + 1) % model.vocab for token in sequence[7:]]
    before, after = (model.logits(model.forward(Tokens.of([each])).states) for each in (sequence, changed))
    same(before[:7], after[:7])
    assert not torch.equal(before[7:], after[7:])


@whole
def test_every_token_changes_every_state_of_its_sequence_alone(model):
    one, other = some(model, [12, 7])
    changed = [*one[:8], (one[8] + 1) % model.vocab, *one[9:]]
    before, after = (model.forward(Tokens.of([each, other])) for each in (one, changed))
    differences = (before.states - after.states).abs().amax(1)
    assert (differences[:12] > 1e-4).all()
    assert (differences[12:] < 1e-6).all()
    if before.pooled is not None:
        assert (before.pooled - after.pooled)[0].abs().max() > 1e-4
        same(before.pooled[1], after.pooled[1])


@two_way
def test_no_direction_sees_what_it_tells(model):
    """Token i is told by the forward state of i - 1 and the backward state of i + 1: changing it changes neither."""
    sequence = some(model, [12])[0]
    changed = [*sequence[:6], (sequence[6] + 1) % model.vocab, *sequence[7:]]
    before, after = (model.forward(Tokens.of([each])).states for each in (sequence, changed))
    for direction, same_ones, others in (("forward", slice(0, 6), slice(6, 12)), ("backward", slice(7, 12), slice(7))):
        one, other = (model.logits(states, direction) for states in (before, after))
        same(one[same_ones], other[same_ones])
        assert (one[others] - other[others]).abs().amax(1).min() > 1e-5


@two_way
def test_each_direction_has_log_probs_of_its_logits(model):
    states = model.forward(Tokens.of(some(model, [5, 1, 9]))).states
    at, ids = torch.tensor([3, 0, 14, 3]), torch.tensor([1, 0, model.words - 1, 2])
    for direction in ("forward", "backward"):
        logits = model.logits(states, direction)
        assert logits.shape == (15, model.words)
        same(model.target_log_probs(states, at, ids, direction), logits.log_softmax(1)[at, ids])


@both
def test_a_pooled_state_for_every_sequence_as_alone(model):
    sequences = some(model, [4, 11, 1])
    pooled = model.forward(Tokens.of(sequences)).pooled
    if pooled is not None:
        assert pooled.shape[0] == 3
        same(pooled, torch.cat([model.forward(Tokens.of([each])).pooled for each in sequences]))


@left
def test_extending_step_by_step_is_reading_at_once(model):
    sequences = some(model, [6, 9, 2])
    whole = model.logits(model.forward(Tokens.of(sequences)).states)
    ends = Tokens.of(sequences).fences.last()
    at_once, _ = model.extend(Tokens.of(sequences), None)
    same(at_once, whole[ends])

    logits, state = model.extend(Tokens.of([sequence[:1] for sequence in sequences]), None)
    assert isinstance(state, DecodeState)
    logits, state = model.extend(Tokens.of([sequence[1:2] for sequence in sequences]), state)
    same(logits[2], whole[ends][2])
    state = state.select(torch.tensor([1, 0]))
    parts = [sequences[1][2:8], sequences[0][2:5]]  # unequal lengths, with a state
    logits, state = model.extend(Tokens.of(parts), state)
    logits, state = model.extend(Tokens.of([sequences[1][8:], sequences[0][5:]]), state)
    same(logits, whole[ends][[1, 0]])


@left
def test_a_selected_state_goes_its_own_way(model):
    sequence = some(model, [8])[0]
    _, state = model.extend(Tokens.of([sequence[:5]]), None)
    both, _ = model.extend(Tokens.of([[sequence[5]], [0]]), state.select(torch.tensor([0, 0])))
    one, state = model.extend(Tokens.of([[sequence[5]]]), state.select(torch.tensor([0])))
    same(both[:1], one)
    other, _ = model.extend(Tokens.of([[*sequence[:5], 0]]), None)
    same(both[1:], other)


@every
def test_a_carried_state_goes_on_where_the_text_was_cut(model):
    if not model.carries:
        return
    sequences = some(model, [9, 9, 9])
    whole = model.forward(Tokens.of(sequences))
    first = model.forward(Tokens.of([sequence[:4] for sequence in sequences]))
    second = model.forward(Tokens.of([sequence[4:] for sequence in sequences]), state=first.state)
    same(model.logits(second.states), model.logits(whole.states).view(3, 9, -1)[:, 4:].flatten(0, 1))


@every
def test_saved_and_loaded_it_is_the_same_bit_for_bit(model, material, tmp_path):
    checkpoint.save(tmp_path / "model", model, material[0])
    loaded = checkpoint.load(tmp_path / "model")
    again = loaded.model
    assert again.config == model.config
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name
    tokens = Tokens.of(some(model, [3, 8]))
    assert torch.equal(model.logits(model.forward(tokens).states), again.logits(again.forward(tokens).states))
    assert loaded.tokenizer.hash == material[0].hash
    described = checkpoint.describe(tmp_path / "model")
    assert described.family == type(model).__module__.rpartition(".")[2]


@pytest.mark.parametrize("family", GRADIENTS)
def test_every_parameter_learns(family, material):
    model = make(family, material).train()
    sequences = some(model, [CONTEXT, 5, CONTEXT], seed=1)
    tokens = Tokens.of(sequences)
    at = torch.arange(tokens.fences.total - 1)
    hidden = model(tokens)
    loss = model.target_log_probs(hidden.states, at, tokens.ids[1:]).sum()
    if model.reads == "two_way":
        loss = loss + model.target_log_probs(hidden.states, at + 1, tokens.ids[:-1], "backward").sum()
    (loss if hidden.pooled is None else loss + hidden.pooled.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("family", GRADIENTS)
def test_a_few_steps_memorise_a_sentence(family, material):
    """Training works at all: the loss of one sentence falls to a fifth within 60 steps of Adam."""
    model = make(family, material).train()
    tokens = Tokens.of(some(model, [CONTEXT], seed=2))
    rate = 0.003 if model.reads == "both" else 0.01  # norms after the residuals bear smaller steps
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    at = torch.arange(CONTEXT - 1)
    losses = []
    for _ in range(60):
        loss = -model.target_log_probs(model(tokens).states, at, tokens.ids[1:]).sum() / len(at)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5
