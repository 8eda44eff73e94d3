"""The GRU read from both ends agrees with torch's, in its states and in every gradient."""

import pytest
import torch
from torch import nn

from vocablo.contract import Fences
from vocablo.nn.two_way import gru_both, packed


@pytest.mark.parametrize("lengths", [[5, 1, 9, 3, 9], [4, 4, 4], [1], [1, 1], [7]])
def test_states_and_gradients_are_those_of_torch(lengths):
    torch.manual_seed(0)
    gru = nn.GRU(6, 4, bidirectional=True).double()
    fences = Fences.of(lengths)
    x = torch.randn(fences.total, 6, dtype=torch.float64)
    weight = torch.randn(fences.total, 8, dtype=torch.float64)
    found = []
    for read in (gru_both, packed):
        given = x.clone().requires_grad_()
        states = read(gru, given, fences)
        gradients = torch.autograd.grad((states * weight).sum(), [given, *gru.parameters()])
        found.append([states, *gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


def test_the_gradient_is_the_slope():
    """Against differences of the function itself, independent of torch's GRU."""
    torch.manual_seed(1)
    gru = nn.GRU(3, 2, bidirectional=True).double()
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: gru_both(gru, given, Fences.of([2, 3, 1])), (x,))
