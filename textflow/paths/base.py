"""ProbPath: the path between text and noise, z_t = alpha(t) x + sigma(t) eps."""

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Time: TypeAlias = float | Float[Tensor, "B ..."]  # one for the batch, one a row, or one a position


def broadcast_time(t: Time, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """t as a tensor that broadcasts over z, by default of its type: [] stays, [B] -> [B, 1, 1], [B, S] -> [B, S, 1]."""
    kind = dtype or z.dtype
    if not isinstance(t, Tensor):
        return torch.full((), t, dtype=kind, device=z.device)  # filled on the device: a copy would make the host wait
    time = t.to(z.device, kind)
    return time.reshape(*time.shape, *[1] * (z.ndim - time.ndim)) if time.ndim else time


class ProbPath(ABC):
    """z_t = alpha(t) x + sigma(t) eps for t_min <= t <= t_max, from most to least noise.

    alpha(t_min) need not be 0 and sigma(t_max) need not be 0: a finite range of log-SNR is a path too.
    """

    t_min: float = 0.0
    t_max: float = 1.0
    log_snr: ClassVar[bool] = False  # whether t is a log signal-to-noise ratio, rather than a number in [0, 1]

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Coefficient of the text in z_t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in z_t, in units of the latents."""

    @abstractmethod
    def velocity(self, z: Tensor, x: Tensor, t: Time) -> Tensor:
        """dz/dt at z_t = z for clean latents x."""

    @abstractmethod
    def step(self, z: Tensor, x: Tensor, t: Time, t_next: Time) -> Tensor:
        """Carry z from t to t_next for clean latents x."""

    def mix(self, x: Tensor, eps: Tensor, t: Time) -> Tensor:
        """z_t = alpha(t) x + sigma(t) eps."""
        t = broadcast_time(t, x)
        return self.alpha(t) * x + self.sigma(t) * eps

    def rewind(self, z: Tensor, eps: Tensor, t: Time, s: Time) -> Tensor:
        """z_s from z_t, s <= t, with fresh noise that preserves the marginal: std sqrt(sigma_s^2 - a^2 sigma_t^2)."""
        t, s = broadcast_time(t, z), broadcast_time(s, z)
        a = torch.where(self.alpha(t) > 0, self.alpha(s) / self.alpha(t).clamp_min(1e-12), 1.0)
        fresh = self.sigma(s) ** 2 - (a * self.sigma(t)) ** 2
        return a * z + fresh.clamp_min(0).sqrt() * eps

    def alpha_sigma(self, t: float) -> tuple[float, float]:
        """alpha and sigma at t, in float64."""
        time = torch.tensor(t, dtype=torch.float64)
        return float(self.alpha(time)), float(self.sigma(time))

    def fraction(self, t: float) -> float:
        """Fraction of [t_min, t_max] that lies before t, in [0, 1]."""
        return (t - self.t_min) / (self.t_max - self.t_min)
