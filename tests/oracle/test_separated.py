"""Perimeters and missed mass of separated modes, against closed forms, limits and Monte Carlo."""

import math

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.oracle import separated
from textflow.oracle.coarea import CurvedInterface, coarea
from textflow.oracle.separated import log_log_slope, simplex_perimeter, slab_perimeter

HALF = 1 / math.sqrt(2 * math.pi)  # perimeter of a half-space
RATIOS = [2.0, 4.0, 8.0, 16.0]
MODES = [2, 4, 8, 16, 256, 1024, 65536]


def test_two_and_three_cells_have_their_known_perimeters() -> None:
    assert_close(simplex_perimeter([2, 3]), torch.tensor([HALF, 1.5 * HALF], dtype=torch.float64), rtol=0, atol=1e-9)
    assert slab_perimeter(2) == pytest.approx(HALF, abs=1e-12)


def test_many_slabs_have_perimeter_m_over_two_root_pi() -> None:
    """The next term is of the order of 1 / m, up to logs: .1 % at a thousand slabs, ten times less at 3e4."""
    for m, tolerance in ((1000, 3e-3), (30000, 2e-4)):
        assert slab_perimeter(m) / (m / (2 * math.sqrt(math.pi))) == pytest.approx(1, rel=tolerance)


def test_the_simplex_lies_between_half_spaces_and_slabs() -> None:
    below, middle = separated.isoperimetric_bound(MODES), simplex_perimeter(MODES)
    above = torch.tensor([slab_perimeter(m) for m in MODES], dtype=torch.float64)
    assert (below <= middle * (1 + 1e-12)).all() and (middle <= above * (1 + 1e-12)).all()
    assert middle[2] < 0.9 * above[2] and below[2] < 0.99 * middle[2], "the three agree at two cells only"


def test_the_normalised_perimeter_rises_towards_one() -> None:
    estimate = separated.simplex_perimeter_ratio(MODES)
    assert (estimate.diff() > 0).all() and estimate[-1] < 1
    expected = torch.tensor([0.479, 0.618, 0.698, 0.750, 0.849, 0.872, 0.911], dtype=torch.float64)
    assert_close(estimate, expected, rtol=0, atol=6e-4)


def test_the_missed_mass_of_two_modes_is_closed_form() -> None:
    assert_close(separated.missed_mass(2, RATIOS), separated.missed_mass_two_modes(RATIOS), rtol=0, atol=1e-12)
    assert float(separated.missed_mass_two_modes([0.5])) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=1e-12)


@pytest.mark.parametrize(("modes", "expected"), [(3, -0.971), (4, -0.955), (8, -0.924), (16, -0.897)])
def test_missed_mass_falls_nearly_inversely_with_stiffness(modes: int, expected: float) -> None:
    estimate = separated.missed_mass(modes, RATIOS)
    assert log_log_slope(RATIOS, estimate) == pytest.approx(expected, abs=1e-3)
    share = estimate * torch.tensor(RATIOS) / simplex_perimeter([modes])
    assert (share < 1).all() and (share.diff() > 0).all() and share[-1] > 0.97


def test_missed_mass_agrees_with_samples() -> None:
    """4 SE of 4e5 samples."""
    z = Noise([3]).normal(400_000, 5)[0].double().topk(2).values
    for ratio, expected in zip(RATIOS, separated.missed_mass(5, RATIOS).tolist(), strict=True):
        estimate = float((z[:, 0] - z[:, 1] <= 1 / (math.sqrt(2) * ratio)).double().mean())
        assert estimate == pytest.approx(expected, abs=4 * math.sqrt(expected / len(z)))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_in_n_dimensions_the_perimeter_grows_as_the_nth_root(n: int) -> None:
    each = range(8, 33)
    estimate = log_log_slope([float(m) ** n for m in each], [separated.box_perimeter(m, n) for m in each])
    assert estimate == pytest.approx(1 / n, rel=0.04) and estimate != pytest.approx(1 / n, rel=1e-3)


def test_independent_factors_are_less_stiff_by_the_square_root_of_their_number() -> None:
    estimate = separated.factorisation_gain(2**12, [1, 2, 3, 4])
    assert (estimate[1:] > torch.tensor([2.0, 3.0, 4.0]).sqrt()).all()
    assert_close(estimate, torch.tensor([1, 1.55, 2.05, 2.55], dtype=torch.float64), rtol=0, atol=6e-3)


def test_random_lines_give_the_perimeter_of_a_simplex() -> None:
    """Coordinates as scores are the simplex, a single pair the half-space: within 4 SE, at 1 % SE."""
    for modes in (2, 8):
        eye = torch.eye(modes, dtype=torch.float64)
        estimate = separated.crofton_perimeter(
            separated.GaussianCells(eye, torch.zeros(modes, dtype=torch.float64)), Noise([5]), lines_per_chunk=2048
        )
        assert estimate.std_error < 0.012
        assert estimate.value == pytest.approx(float(simplex_perimeter([modes])), abs=4 * estimate.std_error)


@pytest.mark.integration
def test_balanced_random_cells_cost_what_the_simplex_does() -> None:
    """In 256 dimensions nearly all directions are orthogonal: within 8 % (3 SE of 2.6 %)."""
    for modes in (16, 128):
        noise = Noise([7])
        cells = separated.balanced_cells(modes, 256, noise, samples_per_cell=96)
        assert separated.crofton_perimeter(cells, noise).value / float(simplex_perimeter([modes])) == pytest.approx(
            1, abs=0.08
        )


def test_balancing_evens_out_the_masses() -> None:
    """In few dimensions directions crowd: the rest is the noise of 400 samples per cell, 5 %, and the test's."""
    cells = separated.balanced_cells(32, 8, Noise([1]), samples_per_cell=400)
    z = Noise([2]).normal(40_000, 8)[0].double()
    before, after = (torch.bincount((z @ cells.w.T + b).argmax(-1), minlength=32) / 1250 for b in (0.0, cells.b))
    assert float(before.std()) > 0.15 and float(after.std()) < 0.08


def test_the_coarea_integral_is_what_samples_find_and_the_bound_is_below() -> None:
    estimate = coarea(CurvedInterface(), Noise([0]))
    assert estimate.monte_carlo.value == pytest.approx(estimate.integral, rel=0.02)
    assert estimate.bound < 0.95 * estimate.integral, "the case is curved: the bound is strict"


def test_flips_under_small_errors_follow_the_coarea_integral() -> None:
    """sqrt(2 / pi) s A_W where the error moves g by a normal of size s: within 3 % (3 SE) at s = .03."""
    case, noise, s = CurvedInterface(), Noise([4]), 0.03
    distance = case.distance(noise.normal(800_000, 2)[0].double())
    moved = distance + s * noise.normal(800_000)[0].double()
    flips = float((distance.sign() != moved.sign()).double().mean())
    law = math.sqrt(2 / math.pi) * s * coarea(case, noise, num_samples=1000).integral
    assert flips == pytest.approx(law, rel=0.03)


def test_a_map_that_is_not_bent_meets_its_bound() -> None:
    """An isotropic map of a circle: |grad| is Lambda everywhere, and A_W = lambda r phi(..) is a chi density."""
    case = CurvedInterface(a=0.7, b=0.7, c=0.0, radius=1.0)
    estimate, r = coarea(case, Noise([0]), num_samples=100_000), 1 / 0.7
    assert estimate.integral == pytest.approx(estimate.bound, rel=1e-12)
    assert estimate.integral == pytest.approx(r * math.exp(-r * r / 2) / 0.7, rel=1e-12)
