"""Operations that save less, against torch's own, in values and in both modes of differentiation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck

from textflow.layers.functional import RMSNorm, linear_nll, swiglu_out


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_the_norm_is_torchs_and_differentiates_both_ways() -> None:
    torch.manual_seed(0)
    ours, theirs = RMSNorm(6, eps=1e-6).double(), nn.RMSNorm(6, eps=1e-6).double()
    with torch.no_grad():
        ours.weight.copy_(torch.rand(6) + 0.5)
        theirs.weight.copy_(ours.weight)
    x = double(3, 2, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)

    def call(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(ours, {"weight": weight}, (x,))

    assert gradcheck(call, (x, double(6)), check_forward_ad=True)


def test_the_gate_is_swiglu_and_differentiates_both_ways() -> None:
    torch.manual_seed(0)
    ab, weight, bias = double(2, 3, 8), double(5, 4), double(5)
    a, b = ab.chunk(2, -1)
    torch.testing.assert_close(
        swiglu_out(ab, weight, bias), F.linear(F.silu(a) * b, weight, bias), rtol=1e-12, atol=1e-12
    )
    assert gradcheck(swiglu_out, (ab, weight, bias), check_forward_ad=True)


@pytest.mark.parametrize("weights", [None, [0.0, 1, 0.5, 2, 0, 1, 3]])
def test_the_chunked_cross_entropy_is_torchs(weights: list[float] | None) -> None:
    torch.manual_seed(0)
    parts, ids = (double(7, 3), double(11, 3), double(11)), torch.randint(11, (7,))
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    nll = F.cross_entropy(F.linear(*parts), ids, reduction="none")
    expected = (nll if weight is None else nll * weight).sum()
    expected_grads = torch.autograd.grad(3 * expected, parts)
    for budget in (1, 22, 10**6):
        chunked = linear_nll(*parts, ids, budget, weight)
        torch.testing.assert_close(chunked, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(torch.autograd.grad(3 * chunked, parts), expected_grads, rtol=1e-12, atol=1e-12)
