"""Rotary positions: two forms of each, and their derivatives."""

import torch
from torch import Tensor
from torch.func import jvp
from torch.testing import assert_close

from textflow.layers.rope import apply_rope_halves, apply_rope_interleaved, rope


def test_rotation_in_real_numbers_is_the_complex_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    freqs = rope(5, 8, x)
    complex_, real = (apply_rope_interleaved(x, f) for f in (freqs, torch.view_as_real(freqs)))
    assert_close(real, complex_, rtol=1e-12, atol=1e-12)


def by_halves(x: Tensor, freqs: Tensor) -> Tensor:
    """The rotation written out, which torch differentiates."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * freqs.real - b * freqs.imag, b * freqs.real + a * freqs.imag], -1)


def test_the_rotation_of_halves_and_its_gradient_are_torchs_to_the_bit() -> None:
    torch.manual_seed(0)
    x, outer = torch.randn(2, 3, 7, 8, requires_grad=True), torch.randn(2, 3, 7, 8)
    freqs = rope(7, 8, x)
    values = [rotate(x, freqs) for rotate in (apply_rope_halves, by_halves)]
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad((value * outer).sum(), x)[0] for value in values))


def test_its_forward_and_second_derivatives_are_torchs() -> None:
    torch.manual_seed(0)
    x, dx = torch.randn(2, 5, 4, dtype=torch.float64), torch.randn(2, 5, 4, dtype=torch.float64)
    freqs = rope(5, 4, x)
    assert_close(*(jvp(lambda x, f=f: f(x, freqs), (x,), (dx,)) for f in (apply_rope_halves, by_halves)))
    assert torch.autograd.gradgradcheck(lambda x: apply_rope_halves(x, freqs).square(), x.requires_grad_())


def test_a_rotation_keeps_the_precision_of_queries() -> None:
    x = torch.randn(1, 5, 4, dtype=torch.bfloat16)
    turned = apply_rope_halves(x, rope(5, 4, x))
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, by_halves(x, rope(5, 4, x)).to(torch.bfloat16))
