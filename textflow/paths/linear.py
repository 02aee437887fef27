"""The straight path of flow matching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.paths.base import ProbPath, Time, broadcast_time


@dataclass(frozen=True)
class LinearPath(ProbPath):
    """z_t = t x + (1 - t) noise_scale eps (ELF, eq. 1).

    Args:
        noise_scale: standard deviation of the noise at t = 0, in units of the latents.
        min_one_minus_t: smallest 1 - t that a velocity is divided by.
        eps: added to 1 - t where a velocity is divided by it (FLM: 1e-5, with min_one_minus_t 0).
        t_min: noisy end, in [0, 1).
        t_max: clean end, in (t_min, 1].
    """

    noise_scale: float = 2.0
    min_one_minus_t: float = 0.05
    eps: float = 0.0
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.t_min < self.t_max <= 1:
            raise ValueError(f"LinearPath got t_min {self.t_min} and t_max {self.t_max}; needs 0 <= t_min < t_max <= 1")

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return self.noise_scale * (1 - t)

    def velocity(self, z: Tensor, x: Tensor, t: Time) -> Tensor:
        return (x - z) / ((1 - broadcast_time(t, z)).clamp_min(self.min_one_minus_t) + self.eps)

    def step(self, z: Tensor, x: Tensor, t: Time, t_next: Time) -> Tensor:
        t, t_next = broadcast_time(t, z, torch.float64), broadcast_time(t_next, z, torch.float64)
        weight = (t_next - t) / ((1 - t).clamp_min(self.min_one_minus_t) + self.eps)  # at t_next = 1 all of it is on x
        return torch.lerp(z, x, weight.to(z.dtype))
