"""Pooling of flat sequences against the same written as a loop over them."""

import pytest
import torch

from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Fences
from vocablo.nn import pooling
from vocablo.nn.output import head_of, parts_of


def states_of(fences, width=6):
    return torch.randn(fences.total, width, generator=torch.Generator().manual_seed(0), requires_grad=True)


def alone(kind, part, module=None):
    """The vector of one sequence [T, D], and the weights of its tokens."""
    if kind == "ends":
        return torch.cat([part[-1, :3], part[0, 3:]]), None
    if module is None:
        return {"last": part[-1], "first": part[0], "mean": part.mean(0), "max": part.max(0).values}[kind], None
    if kind == "attention":
        scores = [torch.tanh(module.score.weight[0] @ h + module.score.bias[0]) for h in part]
    else:
        scores = [torch.tanh(module.map.weight @ h + module.map.bias) @ module.context for h in part]
    alpha = torch.stack(scores).softmax(0)
    return sum(a * h for a, h in zip(alpha, part, strict=True)), alpha


@pytest.mark.parametrize("lengths", [(4, 1, 7, 2), (3, 3), (1,)])
@pytest.mark.parametrize("kind", pooling.KINDS)
def test_each_kind_is_its_equation_sequence_by_sequence(kind, lengths):
    fences = Fences.of(lengths)
    states = states_of(fences)
    torch.manual_seed(1)
    module = pooling.learnt(kind, 6, 5) if kind in pooling.LEARNT else None
    found, weights = module(states, fences) if module else (pooling.pool(states, fences, kind), None)
    wanted = [alone(kind, part, module) for part in states.split(list(lengths))]
    vectors = torch.stack([vector for vector, _ in wanted])
    torch.testing.assert_close(found, vectors, atol=1e-6, rtol=1e-5)
    if module:
        torch.testing.assert_close(weights, torch.cat([alpha for _, alpha in wanted]), atol=1e-6, rtol=1e-5)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    ours, theirs = (
        torch.autograd.grad((one * upstream).sum(), states, retain_graph=True)[0] for one in (found, vectors)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", pooling.LEARNT)
def test_a_module_is_made_again_from_its_tensors(kind):
    module = pooling.learnt(kind, 6, 5)
    again = head_of(parts_of(module), module.state_dict())
    fences = Fences.of([2, 3])
    assert torch.equal(again(states_of(fences), fences)[0], module(states_of(fences), fences)[0])


@pytest.mark.parametrize("kind", pooling.KINDS)
def test_a_sequence_without_tokens_is_named(kind):
    fences = Fences.of([2, 0, 1])
    learnt = pooling.learnt(kind, 6) if kind in pooling.LEARNT else None
    with pytest.raises(DataError, match="Sequence 1"):
        learnt(states_of(fences), fences) if learnt else pooling.pool(states_of(fences), fences, kind)


def test_an_unknown_pooling_names_the_nearest():
    fences = Fences.of([2])
    states = states_of(fences)
    with pytest.raises(ConfigError, match="mean"):
        pooling.pool(states, fences, "meen")
    with pytest.raises(ConfigError, match="attention"):
        pooling.learnt("atention", 6)
