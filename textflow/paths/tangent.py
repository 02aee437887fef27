"""The tangent path of Cosmos and DiLaDiff: variance-preserving, with time in [0, 1]."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.paths.base import ProbPath, Time, broadcast_time


@dataclass(frozen=True)
class TangentPath(ProbPath):
    """z_t = alpha x + sqrt(1 - alpha^2) eps, alpha = 1 / sqrt(1 + d^2 tan^2(pi (1 - t) / 2)) (Cosmos, 2506.21170;
    TEncDM, 2402.19097, whose time 1 - t counts from the text).

    log(alpha^2 / sigma^2) = 2 log(tan(pi t / 2) / d): DiLaDiff (2605.23605) prints another form, eq. 33, which lacks
    the noise that a larger d is said to bring. At t = 0 there is no text, at t = 1 no noise.

    Args:
        d: amount of noise at each time, > 0; text and noise have equal parts at t = 2 / pi arctan(d).
        min_one_minus_t: smallest 1 - t that a velocity is divided by.
    """

    d: float = 3.0
    min_one_minus_t: float = 1e-3

    def __post_init__(self) -> None:
        if self.d <= 0 or not 0 < self.min_one_minus_t < 1:
            raise ValueError(
                f"TangentPath got d {self.d} and min_one_minus_t {self.min_one_minus_t}; needs d above 0 and a time "
                "above 0 and below 1"
            )

    def alpha(self, t: Tensor) -> Tensor:
        return self._text(t) / self._norm(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self._noise(t) / self._norm(t)

    def velocity(self, z: Tensor, x: Tensor, t: Time) -> Tensor:
        """pi / 2 (x - alpha z) / (cos(pi t / 2) n), n^2 = sin^2 + d^2 cos^2: alpha and sigma are sine and cosine of an
        angle of slope pi / 2 d / n^2."""
        t = broadcast_time(t, z)
        rest = self._noise(t.clamp_max(1 - self.min_one_minus_t)) / self.d
        return math.pi / 2 * (x - self.alpha(t) * z) / (rest * self._norm(t))

    def step(self, z: Tensor, x: Tensor, t: Time, t_next: Time) -> Tensor:
        """(sigma_next / sigma) z + (alpha_next - alpha sigma_next / sigma) x, in float64; at t_next = 1 it is x."""
        t, t_next = broadcast_time(t, z, torch.float64), broadcast_time(t_next, z, torch.float64)
        keep = self.sigma(t_next) / self.sigma(t).clamp_min(1e-12)
        return (keep * z.double() + (self.alpha(t_next) - self.alpha(t) * keep) * x.double()).to(z.dtype)

    def _text(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def _noise(self, t: Tensor) -> Tensor:
        """d cos(pi t / 2), as a sine: exactly 0 at t = 1."""
        return self.d * torch.sin(math.pi / 2 * (1 - t))

    def _norm(self, t: Tensor) -> Tensor:
        return torch.hypot(self._text(t), self._noise(t))
