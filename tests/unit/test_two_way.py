"""GRU and LSTM read from both ends agree with torch's, in their states and in every gradient."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from vocablo.contract import Fences
from vocablo.nn.recurrent import Packing
from vocablo.nn.two_way import read_both

KINDS = [nn.GRU, nn.LSTM]


def packed(layer, x, fences):
    """The same by torch's own loop."""
    packing = Packing.of(fences, x.device)
    rows = PackedSequence(x.index_select(0, packing.order), packing.sizes)
    return layer(rows)[0].data.index_select(0, packing.inverse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[5, 1, 9, 3, 9], [4, 4, 4], [1], [1, 1], [7]])
def test_states_and_gradients_are_those_of_torch(kind, lengths):
    torch.manual_seed(0)
    layer = kind(6, 4, bidirectional=True).double()
    fences = Fences.of(lengths)
    x = torch.randn(fences.total, 6, dtype=torch.float64)
    weight = torch.randn(fences.total, 8, dtype=torch.float64)
    found = []
    for read in (read_both, packed):
        given = x.clone().requires_grad_()
        states = read(layer, given, fences)
        gradients = torch.autograd.grad((states * weight).sum(), [given, *layer.parameters()])
        found.append([states, *gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_slope(kind):
    """Against differences of the function itself, independent of torch's layers."""
    torch.manual_seed(1)
    layer = kind(3, 2, bidirectional=True).double()
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: read_both(layer, given, Fences.of([2, 3, 1])), (x,))
