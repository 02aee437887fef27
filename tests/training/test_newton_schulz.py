"""Newton-Schulz iteration: published tensors, Gram space and precision."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.recordings import recorded
from textflow.reference.muon import newton_schulz
from textflow.training.newton_schulz import gram_is_cheaper, iterate, orthogonalize


@pytest.mark.parity
@pytest.mark.parametrize("name", ["tall", "wide"])
def test_the_result_equals_the_published_one(name: str) -> None:
    data, meta = recorded("elf_optim")
    result = orthogonalize(data[f"ns.{name}.in"], meta["config"]["muon"]["ns_steps"])
    assert_close(result, data[f"ns.{name}.out"], atol=1e-6, rtol=1e-6)


def test_zero_maps_to_zero_and_a_batch_equals_its_matrices() -> None:
    u = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    u[1] = 0
    batch = orthogonalize(u)
    assert not batch[1].any()
    assert_close(batch, torch.stack([orthogonalize(m) for m in u]), atol=1e-6, rtol=1e-5)


def ill_conditioned(rows: int, cols: int) -> Tensor:
    """A matrix with singular values from 1 to 1e-6, and three that are 0."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(cols, rows, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, -6, rows, dtype=torch.float64)
    values[-3:] = 0
    return (left * values @ right.T).float()


@pytest.mark.parametrize(
    ("u", "tolerance"),
    [(torch.randn(64, 200, generator=torch.Generator().manual_seed(0)), 1e-5), (ill_conditioned(64, 200), 1e-3)],
    ids=["random", "ill-conditioned"],
)
def test_gram_space_gives_the_same_update(u: Tensor, tolerance: float) -> None:
    assert gram_is_cheaper(u, 5)
    for matrix in (u, u.T):
        exact = newton_schulz(matrix.double())
        error = (orthogonalize(matrix).double() - exact).abs().max() / exact.abs().max()
        assert error < tolerance


def test_gram_space_is_used_if_it_is_cheaper_and_precise_enough() -> None:
    wide = torch.zeros(64, 200)
    assert gram_is_cheaper(wide, 5)
    assert not gram_is_cheaper(wide, 6) and not gram_is_cheaper(wide, 1)  # rounding grows too much; nothing to save
    assert not gram_is_cheaper(torch.zeros(64, 96), 5) and not gram_is_cheaper(torch.zeros(63, 200), 5)
    u = torch.randn(64, 200, generator=torch.Generator().manual_seed(0))
    x = u.bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-8)
    assert torch.equal(orthogonalize(u, dtype=torch.bfloat16), iterate(x, 5).float())


def test_autocast_does_not_lower_the_precision_of_products() -> None:
    u = torch.randn(3, 64, 200, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        result = orthogonalize(u)
    assert torch.equal(result, orthogonalize(u))
