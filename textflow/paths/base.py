"""Path: how text becomes noise, z_t = alpha(t) x + sigma(t) eps."""

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Time: TypeAlias = float | Float[Tensor, " B"]  # one for the batch, or one a row


def column(t: Time, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """t as a tensor that broadcasts over the rows of z, by default of its type: [] or [B] -> [B, 1, 1]."""
    kind = dtype or z.dtype
    if not isinstance(t, Tensor):
        return torch.full((), t, dtype=kind, device=z.device)  # filled there: a copy would wait for a GPU
    column = t.to(z.device, kind)
    return column.reshape(-1, *[1] * (z.ndim - 1)) if column.ndim else column


class Path(ABC):
    """z_t = alpha(t) x + sigma(t) eps with alpha(0) = 0 (noise) and sigma(1) = 0 (text)."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Share of the text in z_t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in z_t, in units of the latents."""

    @abstractmethod
    def velocity(self, z: Tensor, x: Tensor, t: Time) -> Tensor:
        """dz/dt at z_t = z, believing that the text is x."""

    @abstractmethod
    def step(self, z: Tensor, x: Tensor, t: Time, u: Time) -> Tensor:
        """Carry z from t to u, believing that the text is x."""

    def mix(self, x: Tensor, eps: Tensor, t: Time) -> Tensor:
        """z_t = alpha(t) x + sigma(t) eps."""
        t = column(t, x)
        return self.alpha(t) * x + self.sigma(t) * eps

    def rewind(self, z: Tensor, eps: Tensor, t: Time, s: Time) -> Tensor:
        """z_s from z_t, s <= t, by the fresh noise that keeps the marginal: std sqrt(sigma_s^2 - a^2 sigma_t^2)."""
        t, s = column(t, z), column(s, z)
        a = torch.where(self.alpha(t) > 0, self.alpha(s) / self.alpha(t).clamp_min(1e-12), 1.0)
        fresh = self.sigma(s) ** 2 - (a * self.sigma(t)) ** 2
        return a * z + fresh.clamp_min(0).sqrt() * eps
