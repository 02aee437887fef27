"""The straight path of flow matching."""

from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.paths.base import Path, Time, column


@dataclass(frozen=True)
class Linear(Path):
    """z_t = t x + (1 - t) scale eps (ELF, eq. 1).

    Args:
        scale: standard deviation of the noise at t = 0, in units of the latents.
        floor: smallest 1 - t that a velocity is divided by.
    """

    scale: float = 2.0
    floor: float = 0.05

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return self.scale * (1 - t)

    def velocity(self, z: Tensor, x: Tensor, t: Time) -> Tensor:
        return (x - z) / (1 - column(t, z)).clamp_min(self.floor)

    def step(self, z: Tensor, x: Tensor, t: Time, u: Time) -> Tensor:
        t, u = column(t, z, torch.float64), column(u, z, torch.float64)
        share = (u - t) / (1 - t).clamp_min(self.floor)  # convex: at u = 1 all the weight is on x
        return torch.lerp(z, x, share.to(z.dtype))
