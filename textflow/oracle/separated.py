"""Separated modes: perimeter of the cells of a smooth generator, and the mass it must miss [rebuilt].

Gaussian noise is partitioned into one cell per mode. An interface is counted once, with weight phi_n dH^(n-1); the
sum is the partition's perimeter P. All in float64, phi and Phi the standard normal density and distribution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.special import log_ndtr, ndtr, ndtri

from textflow.noise import Noise

GRID = torch.linspace(-12, 12, 4801, dtype=torch.float64)  # trapezoid: exact to rounding for smooth Gaussian tails


def log_density(x: Tensor) -> Tensor:
    """log phi(x)."""
    return -(x**2) / 2 - math.log(2 * math.pi) / 2


def integrate(log_integrand: Float64[Tensor, "n grid"]) -> Float64[Tensor, " n"]:
    """Integral over GRID of functions that vanish at its ends."""
    return log_integrand.exp().sum(-1) * (GRID[1] - GRID[0])


def as_column(values: Sequence[int] | Sequence[float]) -> Float64[Tensor, "n 1"]:
    """Values as a column, to broadcast against GRID."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def slab_perimeter(num_slabs: int) -> float:
    """P_1(m) = sum_i phi(Phi^-1(i / m)), m >= 2 parallel slabs of equal mass; -> m / (2 sqrt(pi))."""
    cuts = torch.arange(1, num_slabs, dtype=torch.float64) / num_slabs
    return float(log_density(ndtri(cuts)).exp().sum())


def box_perimeter(num_slabs: int, dim: int) -> float:
    """Perimeter n P_1(m) of m^n equal boxes, m slabs on each of n axes: the perimeters of independent factors add."""
    return dim * slab_perimeter(num_slabs)


def simplex_perimeter(num_modes: Sequence[int]) -> Float64[Tensor, " n"]:
    """S(M) = M (M - 1) / sqrt(2) int phi^2 Phi^(M - 2), the least perimeter of M >= 2 equal cells in M - 1 dimensions.

    (Milman and Neeman: simplicial clusters are optimal.) The cells are those of the largest of M standard normals."""
    M = as_column(num_modes)
    return (M * (M - 1))[:, 0] / math.sqrt(2) * integrate(2 * log_density(GRID) + (M - 2) * log_ndtr(GRID))


def isoperimetric_bound(num_modes: Sequence[int]) -> Float64[Tensor, " n"]:
    """M phi(Phi^-1(1 / M)) / 2, below every perimeter of M >= 2 equal cells: each is at least a half-space."""
    M = as_column(num_modes)[:, 0]
    return M * log_density(ndtri(1 / M)).exp() / 2


def simplex_perimeter_ratio(num_modes: Sequence[int]) -> Float64[Tensor, " n"]:
    """H(M) = S(M) / sqrt(log M), M >= 2; -> 1."""
    return simplex_perimeter(num_modes) / as_column(num_modes)[:, 0].log().sqrt()


def missed_mass(num_modes: int, stiffness: Sequence[float]) -> Float64[Tensor, " n"]:
    """Mass that a Lambda-Lipschitz map leaves between M >= 2 simplex modes: P(an interface within kappa / (2 Lambda)).

    It is P(lead of the largest of M normals <= kappa / (sqrt(2) Lambda)); two modes: 2 Phi(kappa / (2 Lambda)) - 1.
    Times Lambda / kappa it tends to S(M), from below.

    Args:
        num_modes: number of modes M, >= 2.
        stiffness: Lambda / kappa, the Lipschitz constant over the gap between modes, > 0.
    """
    lead = 1 / (math.sqrt(2) * as_column(stiffness))
    return 1 - num_modes * integrate(log_density(GRID) + (num_modes - 1) * log_ndtr(GRID - lead))


def missed_mass_two_modes(stiffness: Sequence[float]) -> Float64[Tensor, " n"]:
    """2 Phi(kappa / (2 Lambda)) - 1, the exact missed mass of two modes; the stiffness is Lambda / kappa > 0."""
    return 2 * ndtr(1 / (2 * as_column(stiffness)))[:, 0] - 1


def log_log_slope(x: Sequence[float] | Tensor, y: Sequence[float] | Tensor) -> float:
    """Exponent of y > 0 as a power of x > 0: least squares of the logs; at least two values of x differ."""
    a, b = (torch.as_tensor(v, dtype=torch.float64).log() for v in (x, y))
    a = a - a.mean()
    return float((a * b).sum() / (a * a).sum())


def factorisation_gain(num_modes: int, num_factors: Sequence[int]) -> Float64[Tensor, " n"]:
    """S(M) / S(M^(1/B)): stiffness of one map to M modes relative to B >= 1 independent maps; >= sqrt(B).

    Args:
        num_modes: number of modes M, a B-th power for each B.
        num_factors: number of independent maps B, >= 1.
    """
    roots = [round(num_modes ** (1 / B)) for B in num_factors]
    exact = all(root**B == num_modes for root, B in zip(roots, num_factors, strict=True))
    assert exact, f"{num_modes} is not a power for all {num_factors}"
    return simplex_perimeter([num_modes]) / simplex_perimeter(roots)


class MonteCarloEstimate(NamedTuple):
    """A Monte-Carlo mean and its standard error."""

    value: float
    std_error: float


class GaussianCells(NamedTuple):
    """Cells argmax_i w_i z + b_i of Gaussian space."""

    w: Float[Tensor, "M n"]
    b: Float[Tensor, " M"]


def balanced_cells(
    num_modes: int, dim: int, noise: Noise, num_rounds: int = 6, samples_per_cell: int = 64
) -> GaussianCells:
    """Random directions w on the sphere, with offsets b such that all cells have nearly the same mass.

    Args:
        num_modes: number of cells.
        dim: dimension of the sphere's space.
        noise: one stream.
        num_rounds: number of corrections of b.
        samples_per_cell: samples per cell that the masses are estimated on.
    """
    w = torch.nn.functional.normalize(noise.normal(num_modes, dim)[0].double(), dim=-1)
    b = torch.zeros(num_modes, dtype=torch.float64)
    for _ in range(num_rounds):
        counts = torch.full_like(b, 0.5)
        for _ in range(samples_per_cell):  # in chunks of M samples: M x M scores in memory
            top = (noise.normal(num_modes, dim)[0].double() @ w.T + b).argmax(-1)
            counts += torch.bincount(top, minlength=num_modes)
        rate = math.sqrt(8 * math.log(num_modes))  # half of Newton's step, by the tail's rate
        b += (counts.mean() / counts).log() / rate
    return GaussianCells(w, b)


def crofton_perimeter(
    cells: GaussianCells, noise: Noise, lines_per_chunk: int = 1024, num_chunks: int = 4
) -> MonteCarloEstimate:
    """Perimeter of cells by Crofton's formula: sum of phi at the crossings of random lines, over E|nu u|."""
    n = cells.w.shape[1]
    share = math.exp(math.lgamma(n / 2) - math.lgamma((n + 1) / 2)) / math.sqrt(math.pi)  # E|nu u|, u on the sphere
    density = torch.cat([crossing_density(cells, noise, lines_per_chunk) for _ in range(num_chunks)]) / share
    return MonteCarloEstimate(float(density.mean()), float(density.std()) / math.sqrt(len(density)))


def crossing_density(
    cells: GaussianCells, noise: Noise, num_lines: int, reach: float = 9.0
) -> Float64[Tensor, " lines"]:
    """Sum of phi(s) where the lines z + s u, z normal and orthogonal to u, pass from one cell to the next."""
    u, z = noise.normal(2, num_lines, cells.w.shape[1])[0].double()
    u = torch.nn.functional.normalize(u, dim=-1)
    rise, base = u @ cells.w.T, (z - (z * u).sum(-1, keepdim=True) * u) @ cells.w.T + cells.b  # scores base + s rise
    total, s = torch.zeros(num_lines, dtype=torch.float64), torch.full((num_lines, 1), -reach, dtype=torch.float64)
    cell = (base + s * rise).argmax(-1, keepdim=True)
    while bool((s < reach).any()):  # along the upper envelope, all lines at once
        steeper = rise - rise.gather(-1, cell)
        meet = (base.gather(-1, cell) - base) / steeper.clamp_min(1e-300)
        at, cell = meet.masked_fill(steeper <= 0, reach).min(-1, keepdim=True)
        s = torch.maximum(s, at.clamp_max(reach))  # a line stops at reach
        total += torch.where(s < reach, log_density(s).exp(), 0.0)[:, 0]
    return total
