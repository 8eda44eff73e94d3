"""The linear map's own product and backward pass against torch's."""

import pytest
import torch
import torch.nn.functional as F

from vocablo.nn.linear import Linear, product


def both(dtype, bias=True, rows=7, autocast=False):
    torch.manual_seed(0)
    module = Linear(24, 40, bias=bias, dtype=dtype)
    x = torch.randn(rows, 24, dtype=dtype)
    upstream = torch.randn(rows, 40, dtype=dtype)
    found = []
    for apply in (module, lambda x: F.linear(x, module.weight, module.bias)):
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            out = apply(leaf)
        out.backward(upstream.to(out.dtype))
        found.append([out, leaf.grad, *(parameter.grad for parameter in module.parameters())])
    return zip(*found, strict=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_and_gradients_are_torchs(dtype, bias):
    for ours, theirs in both(dtype, bias):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_no_rows_are_no_rows():
    for ours, theirs in both(torch.float32, rows=0):
        torch.testing.assert_close(ours, theirs)


def test_under_autocast_the_products_are_short_and_the_gradients_long():
    for ours, theirs in both(torch.float32, autocast=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.02)
    out, of_x, of_weight, of_bias = (ours for ours, _ in both(torch.float32, autocast=True))
    assert out.dtype == torch.bfloat16
    assert of_x.dtype == of_weight.dtype == of_bias.dtype == torch.float32


def test_the_product_takes_a_turned_matrix():
    x, weight = torch.randn(5, 6), torch.randn(6, 9)
    torch.testing.assert_close(product(x, weight.t()), x @ weight)
