"""The time schedule of ELF."""

import torch
from torch import Tensor

from textflow.schedules.base import TimeSchedule


class LogitNormal(TimeSchedule):
    """t = sigmoid(mean + std n), n standard normal (ELF, sec. 3).

    Args:
        mean: mean of logit(t); below 0 favours noisy times.
        std: standard deviation of logit(t), > 0.
    """

    def __init__(self, mean: float = -1.5, std: float = 0.8) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def icdf(self, q: Tensor) -> Tensor:
        return self.time_of(torch.special.ndtri(q))

    def time_of(self, normal: Tensor) -> Tensor:
        """The time that belongs to a standard normal draw."""
        return torch.sigmoid(self.mean + self.std * normal)
