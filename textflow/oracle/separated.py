"""Separated modes: the perimeter that a smooth generator must pay, and the mass it must miss [rebuilt].

Gaussian noise is cut into one cell a mode. An interface is counted once, with weight phi_n dH^(n-1); the sum is the
partition's perimeter P. All in float64, phi and Phi the standard normal density and distribution.
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


def integral(log_integrand: Float64[Tensor, "n grid"]) -> Float64[Tensor, " n"]:
    """Integral over GRID of functions that vanish at its ends."""
    return log_integrand.exp().sum(-1) * (GRID[1] - GRID[0])


def column(values: Sequence[int] | Sequence[float]) -> Float64[Tensor, "n 1"]:
    """Numbers as a column, to be laid against GRID."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def slabs(m: int) -> float:
    """P_1(m) = sum_i phi(Phi^-1(i / m)), m parallel slabs of equal mass; -> m / (2 sqrt(pi)).

    Args:
        m: cells, >= 2.
    """
    cuts = torch.arange(1, m, dtype=torch.float64) / m
    return float(log_density(ndtri(cuts)).exp().sum())


def products(m: int, n: int) -> float:
    """Perimeter n P_1(m) of m^n equal boxes: the perimeters of independent factors add.

    Args:
        m: slabs an axis.
        n: axes.
    """
    return n * slabs(m)


def simplex(modes: Sequence[int]) -> Float64[Tensor, " n"]:
    """S(M) = M (M - 1) / sqrt(2) int phi^2 Phi^(M - 2), the least perimeter of M equal cells in >= M - 1 dimensions.

    (Milman and Neeman: simplicial clusters are optimal.) The cells are those of the largest of M standard normals.

    Args:
        modes: M, each >= 2.
    """
    M = column(modes)
    return (M * (M - 1))[:, 0] / math.sqrt(2) * integral(2 * log_density(GRID) + (M - 2) * log_ndtr(GRID))


def isoperimetric(modes: Sequence[int]) -> Float64[Tensor, " n"]:
    """M phi(Phi^-1(1 / M)) / 2, below every perimeter of M equal cells: each is at least a half-space.

    Args:
        modes: M, each >= 2.
    """
    M = column(modes)[:, 0]
    return M * log_density(ndtri(1 / M)).exp() / 2


def normalised(modes: Sequence[int]) -> Float64[Tensor, " n"]:
    """H(M) = S(M) / sqrt(log M); -> 1.

    Args:
        modes: M, each >= 2.
    """
    return simplex(modes) / column(modes)[:, 0].log().sqrt()


def missed(modes: int, stiffness: Sequence[float]) -> Float64[Tensor, " n"]:
    """Mass that a Lambda-Lipschitz map leaves between M simplex modes: P(an interface within kappa / (2 Lambda)).

    It is P(lead of the largest of M normals <= kappa / (sqrt(2) Lambda)); two modes: 2 Phi(kappa / (2 Lambda)) - 1.
    Times Lambda / kappa it tends to S(M), from below.

    Args:
        modes: M >= 2.
        stiffness: Lambda / kappa, the Lipschitz constant over the gap between modes, > 0.
    """
    lead = 1 / (math.sqrt(2) * column(stiffness))
    return 1 - modes * integral(log_density(GRID) + (modes - 1) * log_ndtr(GRID - lead))


def missed_by_two(stiffness: Sequence[float]) -> Float64[Tensor, " n"]:
    """2 Phi(kappa / (2 Lambda)) - 1, the exact missed mass of two modes.

    Args:
        stiffness: Lambda / kappa, > 0.
    """
    return 2 * ndtr(1 / (2 * column(stiffness)))[:, 0] - 1


def slope(x: Sequence[float] | Tensor, y: Sequence[float] | Tensor) -> float:
    """Exponent of y over x: least squares of the logs.

    Args:
        x: > 0, at least two different values.
        y: > 0.
    """
    a, b = (torch.as_tensor(v, dtype=torch.float64).log() for v in (x, y))
    a = a - a.mean()
    return float((a * b).sum() / (a * a).sum())


def blocks(modes: int, parts: Sequence[int]) -> Float64[Tensor, " n"]:
    """S(M) / S(M^(1/B)), how much steeper one map to M modes is than B independent ones; >= sqrt(B).

    Args:
        modes: M, a B-th power for each B.
        parts: B, each >= 1.
    """
    roots = [round(modes ** (1 / B)) for B in parts]
    assert all(root**B == modes for root, B in zip(roots, parts, strict=True)), f"{modes} is no power for all {parts}"
    return simplex([modes]) / simplex(roots)


class Estimate(NamedTuple):
    """A Monte-Carlo mean and its standard error."""

    value: float
    error: float


class Cells(NamedTuple):
    """Cells argmax_i w_i z + b_i of Gaussian space."""

    w: Float[Tensor, "M n"]
    b: Float[Tensor, " M"]


def balanced(modes: int, n: int, noise: Noise, rounds: int = 6, each: int = 64) -> Cells:
    """Random directions w on the sphere, with offsets b such that all cells have nearly the same mass.

    Args:
        modes: M >= 2.
        n: dimensions.
        noise: one stream.
        rounds: of correcting b.
        each: samples a cell and round.
    """
    w = torch.nn.functional.normalize(noise.normal(modes, n)[0].double(), dim=-1)
    b = torch.zeros(modes, dtype=torch.float64)
    for _ in range(rounds):
        counts = torch.full_like(b, 0.5)
        for _ in range(each):  # in chunks of M samples: M x M scores in memory
            top = (noise.normal(modes, n)[0].double() @ w.T + b).argmax(-1)
            counts += torch.bincount(top, minlength=modes)
        b += (counts.mean() / counts).log() / math.sqrt(
            8 * math.log(modes)
        )  # half of Newton's step, by the tail's rate
    return Cells(w, b)


def perimeter(cells: Cells, noise: Noise, lines: int = 1024, chunks: int = 4) -> Estimate:
    """Perimeter of cells by Crofton's formula: sum of phi at the crossings of random lines, over E|nu u|.

    Args:
        cells: of Gaussian space.
        noise: one stream.
        lines: random lines a chunk.
        chunks: of lines.
    """
    n = cells.w.shape[1]
    share = math.exp(math.lgamma(n / 2) - math.lgamma((n + 1) / 2)) / math.sqrt(math.pi)  # E|nu u|, u on the sphere
    found = torch.cat([crossed(cells, noise, lines) for _ in range(chunks)]) / share
    return Estimate(float(found.mean()), float(found.std()) / math.sqrt(len(found)))


def crossed(cells: Cells, noise: Noise, lines: int, reach: float = 9.0) -> Float64[Tensor, " lines"]:
    """Sum of phi(s) where the lines z + s u, z normal and orthogonal to u, pass from one cell to the next."""
    u, z = noise.normal(2, lines, cells.w.shape[1])[0].double()
    u = torch.nn.functional.normalize(u, dim=-1)
    rise, base = u @ cells.w.T, (z - (z * u).sum(-1, keepdim=True) * u) @ cells.w.T + cells.b  # scores base + s rise
    total, s = torch.zeros(lines, dtype=torch.float64), torch.full((lines, 1), -reach, dtype=torch.float64)
    cell = (base + s * rise).argmax(-1, keepdim=True)
    while bool((s < reach).any()):  # along the upper envelope, all lines at once
        steeper = rise - rise.gather(-1, cell)
        meet = (base.gather(-1, cell) - base) / steeper.clamp_min(1e-300)
        at, cell = meet.masked_fill(steeper <= 0, reach).min(-1, keepdim=True)
        s = torch.maximum(s, at.clamp_max(reach))  # at the end a line stays
        total += torch.where(s < reach, log_density(s).exp(), 0.0)[:, 0]
    return total
