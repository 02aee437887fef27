"""Densities at the boundary against known ones."""

import math

import pytest
import torch
from torch import Tensor

from textflow.diagnostics.density import BoundaryDensity, boundary_density, density_at
from textflow.noise import Noise


def uniform(n: int) -> Tensor:
    return Noise([11]).uniform(n)[0]


@pytest.mark.parametrize(
    ("name", "f", "tolerance"),
    [("exponential", 1.0, 0.08), ("half-normal", math.sqrt(2 / math.pi), 0.12), ("two modes", 0.4839, 0.12)],
)
def test_the_density_at_the_boundary_matches_known_laws(name: str, f: float, tolerance: float) -> None:
    n = 20_000
    normal = Noise([5]).normal(n)[0].double()
    distance = {
        "exponential": -uniform(n).log(),
        "half-normal": normal.abs(),
        "two modes": (normal + (uniform(n) < 0.5).double() * 2 - 1).abs(),
    }[name]
    result = boundary_density(distance)
    assert result.value == pytest.approx(f, rel=tolerance)
    assert abs(result.value - f) < 4 * result.std_error + 0.02 * f and not result.is_separated
    assert result.num_distances == n and result.half_bandwidth_value > 0 and result.double_bandwidth_value > 0


def test_the_reported_error_is_the_spread_over_samples() -> None:
    u = uniform(60 * 2000).reshape(60, 2000)
    result = [boundary_density(-row.log()) for row in u]
    spread = torch.tensor([density.value for density in result]).std()
    assert float(spread) == pytest.approx(
        sum(density.std_error for density in result) / 60, rel=0.35
    )  # 60 samples: 9 % error


def test_separated_classes_are_detected() -> None:
    u = uniform(40_000).reshape(2, -1)
    touching = boundary_density(-u.log().sum(0))  # Gamma(2): density x exp(-x), 0 at the boundary
    separated = boundary_density(0.5 - u[0].log())
    assert touching.is_separated and separated.is_separated and touching.value < 0.06 and separated.value < 0.01


def test_the_density_off_the_boundary_is_known_and_unreachable_boundaries_have_none() -> None:
    distance = -uniform(40_000).log()
    for point in (0.0, 0.05, 0.3, 1.0):
        assert density_at(distance, point, 0.15) == pytest.approx(math.exp(-point), rel=0.08)
    half = torch.cat([distance, torch.full_like(distance, torch.inf)])
    assert boundary_density(half).value == pytest.approx(boundary_density(distance).value / 2, rel=1e-9)
    assert boundary_density(distance[:0]) == BoundaryDensity(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    assert boundary_density(torch.full((9,), torch.inf)).value == 0
