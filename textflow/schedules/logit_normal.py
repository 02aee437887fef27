"""The law of time of ELF."""

import torch
from torch import Tensor

from textflow.schedules.base import Clock


class LogitNormal(Clock):
    """t = sigmoid(mean + std n), n standard normal (ELF, sec. 3).

    Args:
        mean: of the logit; below 0 there is more noise than text.
        std: of the logit.
    """

    def __init__(self, mean: float = -1.5, std: float = 0.8) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def icdf(self, q: Tensor) -> Tensor:
        return self.at(torch.special.ndtri(q))

    def at(self, normal: Tensor) -> Tensor:
        """The time of a standard normal draw."""
        return torch.sigmoid(self.mean + self.std * normal)
