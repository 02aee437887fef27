"""Every time alike."""

from torch import Tensor

from textflow.schedules.base import Clock


class Uniform(Clock):
    """t uniform on [0, 1]."""

    def icdf(self, q: Tensor) -> Tensor:
        return q
