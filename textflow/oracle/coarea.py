"""Coarea law of flips at a curved interface: Monte Carlo, integral and bound [rebuilt]."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.separated import MonteCarloEstimate, log_density


class CurvedInterface(NamedTuple):
    """A curved case in the plane [ours]: modes inside and outside a circle, T(z) = (a z1, b (z2 + c sin z1)).

    Args:
        a: stretch of the first axis, > 0.
        b: stretch of the second axis, > 0.
        c: amplitude of the bend.
        radius: radius of the circle, > 0.
    """

    a: float = 1.0
    b: float = 0.8
    c: float = 0.7
    radius: float = 1.2

    def distance(self, z: Float64[Tensor, "n 2"]) -> Float64[Tensor, " n"]:
        """g(T(z)), the signed distance to the circle."""
        bent = self.b * (z[:, 1] + self.c * z[:, 0].sin())
        return torch.hypot(self.a * z[:, 0], bent) - self.radius

    @property
    def lipschitz(self) -> float:
        """Lambda = sup |dT|: the bend is steepest where |cos z1| = 1."""
        steepest = torch.tensor([[self.a, 0.0], [self.b * self.c, self.b]], dtype=torch.float64)
        return float(torch.linalg.matrix_norm(steepest, 2))


class CoareaResult(NamedTuple):
    """A_W by Monte Carlo and by the coarea formula, and its lower bound P / Lambda."""

    monte_carlo: MonteCarloEstimate
    integral: float
    bound: float


def coarea(
    interface: CurvedInterface,
    noise: Noise,
    num_samples: int = 2_000_000,
    band_half_width: float = 0.05,
    num_points: int = 4096,
) -> CoareaResult:
    """A_W, the density of g(T(z)) at 0, = int_{T^-1(F)} phi / |grad(g T)| dH >= P(T^-1(F)) / Lambda.

    Small errors of size s then flip a share sqrt(2 / pi) s A_W of the samples.

    Args:
        interface: interface g o T and its zero set.
        noise: one stream.
        num_samples: number of samples of z.
        band_half_width: half width of the band |g| < band_half_width.
        num_points: quadrature points on the closed curve T^-1(F).
    """
    inside = interface.distance(noise.normal(num_samples, 2)[0].double()).abs() < band_half_width
    share = float(inside.double().mean())
    error = math.sqrt(share * (1 - share) / num_samples)
    angle = torch.arange(num_points, dtype=torch.float64) * (2 * math.pi / num_points)
    cos, sin = angle.cos(), angle.sin()
    z1 = interface.radius / interface.a * cos
    z2 = interface.radius / interface.b * sin - interface.c * z1.sin()
    dz1 = -interface.radius / interface.a * sin
    dz2 = interface.radius / interface.b * cos - interface.c * z1.cos() * dz1
    weight = (log_density(z1) + log_density(z2)).exp() * torch.hypot(dz1, dz2) * (2 * math.pi / num_points)
    gradient = torch.hypot(interface.a * cos + interface.b * interface.c * z1.cos() * sin, interface.b * sin)  # dT^T nu
    sampled = MonteCarloEstimate(share / (2 * band_half_width), error / (2 * band_half_width))
    return CoareaResult(sampled, float((weight / gradient).sum()), float(weight.sum()) / interface.lipschitz)
