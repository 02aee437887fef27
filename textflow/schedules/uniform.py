"""The uniform time schedule."""

import torch
from torch import Tensor

from textflow.schedules.base import TimeSchedule


class Uniform(TimeSchedule):
    """Uniform times on [t_min, t_max]; beyond [0, 1] they are log signal-to-noise ratios (VariancePreserving).

    Args:
        t_min: smallest time, the noisy end of the path.
        t_max: largest time, the clean end of the path.
    """

    def __init__(self, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__()
        if not t_min < t_max:
            raise ValueError(f"Uniform got t_min {t_min} and t_max {t_max}; t_min must lie below t_max")
        self.t_min, self.t_max = t_min, t_max

    @property
    def log_snr(self) -> bool:
        return self.t_min < 0 or self.t_max > 1

    def icdf(self, q: Tensor) -> Tensor:
        if (self.t_min, self.t_max) == (0.0, 1.0):
            return q
        return torch.lerp(torch.full_like(q, self.t_min), torch.full_like(q, self.t_max), q)
