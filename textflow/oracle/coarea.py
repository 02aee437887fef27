"""The coarea law of flips where the interface is curved: Monte Carlo, the integral and the bound [rebuilt]."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.separated import Estimate, log_density


class Curved(NamedTuple):
    """A curved case in the plane [ours]: modes inside and outside a circle, T(z) = (a z1, b (z2 + c sin z1)).

    Args:
        a: stretch of the first axis, > 0.
        b: stretch of the second axis, > 0.
        c: bend.
        radius: of the circle, > 0.
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


class Coarea(NamedTuple):
    """A_W three ways: sampled, by the coarea formula, and the bound P / Lambda below it."""

    sampled: Estimate
    integral: float
    bound: float


def coarea(case: Curved, noise: Noise, samples: int = 2_000_000, band: float = 0.05, points: int = 4096) -> Coarea:
    """A_W, the density of g(T(z)) at 0, = int_{T^-1(F)} phi / |grad(g T)| dH >= P(T^-1(F)) / Lambda.

    Small errors of size s then flip a share sqrt(2 / pi) s A_W of the samples.

    Args:
        case: T and the circle F.
        noise: one stream.
        samples: of z.
        band: half width of the band |g| < band that is counted.
        points: of the closed curve T^-1(F).
    """
    inside = case.distance(noise.normal(samples, 2)[0].double()).abs() < band
    share = float(inside.double().mean())
    error = math.sqrt(share * (1 - share) / samples)
    angle = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    cos, sin = angle.cos(), angle.sin()
    z1 = case.radius / case.a * cos
    z2 = case.radius / case.b * sin - case.c * z1.sin()
    dz1 = -case.radius / case.a * sin
    dz2 = case.radius / case.b * cos - case.c * z1.cos() * dz1
    weight = (log_density(z1) + log_density(z2)).exp() * torch.hypot(dz1, dz2) * (2 * math.pi / points)
    gradient = torch.hypot(case.a * cos + case.b * case.c * z1.cos() * sin, case.b * sin)  # dT^T nu
    sampled = Estimate(share / (2 * band), error / (2 * band))
    return Coarea(sampled, float((weight / gradient).sum()), float(weight.sum()) / case.lipschitz)
