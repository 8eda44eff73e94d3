"""Recurrent stacks against the recurrences written out step by step, and the corners of flat batches."""

import pytest
import torch

from vocablo.base.errors import ConfigError
from vocablo.contract import Fences, Tokens
from vocablo.models import rnn
from vocablo.nn.recurrent import MODULES, RecurrentStack, TwoWayStack, explained, explained_both


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("lengths", [(4, 1, 6), (3, 3), (1,)])
def test_a_stack_is_its_equations_sequence_by_sequence(kind, lengths):
    torch.manual_seed(0)
    one, both = RecurrentStack(kind, 5, 4, 2, 0.0), TwoWayStack(kind, 5, 4, 2, 0.0)
    fences = Fences.of(lengths)
    x = drawn(fences.total, 5)
    with torch.no_grad():
        states, after = one(x, fences, None)
        wanted = [explained(one, part, one.zero(1, x)) for part in x.split(list(lengths))]
        torch.testing.assert_close(states, torch.cat(wanted), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after.hidden[-1], torch.stack([part[-1] for part in wanted]), atol=1e-6, rtol=1e-5)
        wanted = [explained_both(both, part) for part in x.split(list(lengths))]
        torch.testing.assert_close(both(x, fences), torch.cat(wanted), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", MODULES)
def test_a_sequence_without_tokens_leaves_its_state_and_its_neighbours_alone(kind):
    torch.manual_seed(0)
    stack, both = RecurrentStack(kind, 5, 4, 2, 0.0), TwoWayStack(kind, 5, 4, 2, 0.0)
    x = drawn(6, 5)
    with torch.no_grad():
        _, state = stack(drawn(3, 5, seed=1), Fences.of([1, 1, 1]), None)
        states, after = stack(x, Fences.of([2, 0, 4]), state)
        kept, others = torch.tensor([1]), torch.tensor([0, 2])
        assert torch.equal(after.select(kept).hidden[1], state.select(kept).hidden[1])
        alone, ended = stack(x, Fences.of([2, 4]), state.select(others))
        torch.testing.assert_close(states, alone)
        torch.testing.assert_close(after.select(others).hidden[1], ended.hidden[1])
        torch.testing.assert_close(both(x, Fences.of([2, 0, 4])), both(x, Fences.of([2, 4])))
        none, same = stack(x[:0], Fences.of([0, 0, 0]), state)
        assert none.shape == (0, 4)
        assert torch.equal(same.hidden[0], state.hidden[0])
        assert both(x[:0], Fences.of([0])).shape == (0, 8)


def test_an_encoder_without_an_output_layer_keeps_its_states():
    model = rnn.build(rnn.config_for("bigru", "tiny", 20, 16, {"stack": {"width": 6}})).eval()
    bare = model.trimmed().eval()
    tokens = Tokens.of([[3, 4, 5], [6]])
    with torch.no_grad():
        assert torch.equal(bare(tokens).states, model(tokens).states)
    assert bare.head is None
    assert rnn.family_of(bare.config) == "bigru"


def test_without_layers_it_is_a_bag_of_vectors():
    config = rnn.config_for("bilstm", "tiny", 20, 64, {"embed": {"width": 6}, "stack": {"layers": 0}, "head": None})
    model = rnn.build(config).eval()
    tokens = Tokens.of([[3, 1], [4], [1, 5, 9]])
    assert config.width == 6
    assert torch.equal(model(tokens).states, model.tokens.weight[tokens.ids])
    assert set(dict(model.named_parameters())) == {"tokens.weight"}
    with pytest.raises(ConfigError, match="needs one at least"):
        rnn.config_for("lstm", "tiny", 20, 64, {"stack": {"layers": 0}})
