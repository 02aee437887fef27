"""The variance-preserving path, with log signal-to-noise as its time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.paths.base import ProbPath, Time, broadcast_time


@dataclass(frozen=True)
class VariancePreserving(ProbPath):
    """z_t = sqrt(sigmoid(t)) x + sqrt(sigmoid(-t)) eps, t = ln(alpha^2 / sigma^2) (LangFlow, 2604.11748, whose gamma is
    -t; VDM, 2107.00630).

    Args:
        t_min: noisy end; grids do not begin before it, and escapes take z for pure noise up to it.
        t_max: clean end; sampling ends there, with almost no noise left.
    """

    t_min: float = -14.5
    t_max: float = 14.5
    log_snr: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.t_min < self.t_max:
            raise ValueError(f"VariancePreserving got t_min {self.t_min} and t_max {self.t_max}; needs t_min < t_max")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(t).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-t).sqrt()

    def velocity(self, z: Tensor, x: Tensor, t: Time) -> Tensor:
        alpha = self.alpha(broadcast_time(t, z))
        return alpha / 2 * (x - alpha * z)

    def step(self, z: Tensor, x: Tensor, t: Time, t_next: Time) -> Tensor:
        """(sigma_next / sigma) z + (alpha_next - alpha sigma_next / sigma) x, in float64 and without a division."""
        t, t_next = broadcast_time(t, z, torch.float64), broadcast_time(t_next, z, torch.float64)
        keep = ((t - t_next) / 2).exp()  # sigma_next alpha / (alpha_next sigma)
        grow = ((F.softplus(-t) - F.softplus(-t_next)) / 2).exp()  # alpha_next / alpha
        return (keep * grow * z.double() + self.alpha(t_next) * (1 - keep) * x.double()).to(z.dtype)

    def fraction(self, t: float) -> float:
        return min(max(super().fraction(t), 0.0), 1.0)
