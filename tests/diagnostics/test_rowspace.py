"""Row space of a decoder."""

import pytest
import torch
from torch.testing import assert_close

from textflow.diagnostics.rowspace import estimate_row_space, linear_row_space, row_energy_fraction
from textflow.noise import Noise


def weights(out: int, rank: int, d: int) -> torch.Tensor:
    a, b = Noise([1]).normal(out, rank)[0].double(), Noise([2]).normal(rank, d)[0].double()
    return a @ b


def test_the_row_space_of_a_linear_map_is_exact_and_its_estimate_agrees() -> None:
    W = weights(50, 3, 12)
    basis = linear_row_space(W)
    assert basis.shape == (3, 12)
    assert_close(basis @ basis.T, torch.eye(3, dtype=torch.float64))
    assert_close(W @ basis.T @ basis, W)
    assert linear_row_space(W.float()).shape == (3, 12), "rounding adds no direction"
    z = Noise(range(4)).normal(20, 12).double()
    result = estimate_row_space(lambda z: z @ W.T, z, torch.ones(4, 20, dtype=torch.bool), Noise(range(4)), 0.9999)
    centred = linear_row_space(W - W.mean(0))
    assert_close(result.T @ result, centred.T @ centred, rtol=0, atol=1e-6)


def test_a_common_shift_of_the_logits_is_ignored() -> None:
    W = torch.zeros(5, 3, dtype=torch.float64)
    W[:, 0], W[2, 1] = 7.0, 1.0
    z, mask = torch.zeros(2, 4, 3).double(), torch.ones(2, 4, dtype=torch.bool)
    result = estimate_row_space(lambda z: z @ W.T, z, mask, Noise([0, 1]))
    assert_close(result.abs(), torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_rank_grows_with_the_share_of_the_energy() -> None:
    scale = torch.tensor([10.0, 3.0, 1.0, 0.0], dtype=torch.float64)  # energies 100, 9, 1, 0 of a rotation of logits
    W = torch.linalg.qr(Noise([3]).normal(30, 4)[0].double())[0]
    W = torch.linalg.qr(W - W.mean(0))[0]  # columns without a common part, so the energies stay
    z = Noise(range(8)).normal(50, 4).double()
    mask = torch.ones(8, 50, dtype=torch.bool)
    for rank, share in ((1, 0.8), (2, 0.97), (3, 0.999)):
        assert len(estimate_row_space(lambda z: (z * scale) @ W.T, z, mask, Noise(range(8)), share)) == rank


def test_the_jacobian_at_padding_is_ignored() -> None:
    """Readout that depends on axis 0 at text and on axis 1 at padding."""
    mask = torch.tensor([[True, True, False, False]])
    z = torch.zeros(1, 4, 2, dtype=torch.float64)
    read = lambda z: torch.stack([torch.where(mask, z[..., 0], 9 * z[..., 1]), 0 * z[..., 0]], -1)  # noqa: E731
    with torch.inference_mode():
        result = estimate_row_space(read, z, mask, Noise([0]))
    assert_close(result.abs(), torch.tensor([[1.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_energy_fraction_of_an_isotropic_residual_is_rank_over_dimension() -> None:
    x, r = torch.zeros(30, 40, 16).double(), Noise(range(30)).normal(40, 16).double()
    mask = torch.ones(30, 40, dtype=torch.bool)
    basis = linear_row_space(weights(50, 4, 16))
    assert row_energy_fraction(x, x + r, mask, basis) == pytest.approx(0.25, abs=0.01)
    assert row_energy_fraction(x, x + r @ basis.T @ basis, mask, basis) == pytest.approx(1, abs=1e-12)
    assert row_energy_fraction(x, x, mask, basis) == 0
    mask[:, 20:] = False
    padded = torch.where(mask[..., None], r, torch.nan)
    assert row_energy_fraction(x, padded, mask, basis) == row_energy_fraction(x, r, mask, basis)
