"""A grid of random times."""

from torch import Tensor

from textflow.noise import Noise
from textflow.schedules.base import Clock


class Drawn(Clock):
    """A clock's law, its grids drawn at random and sorted instead of laid at its quantiles (ELF, released code).

    ELF draws a grid for every batch; here the seed draws one for all, so that no text depends on its batch.

    Args:
        clock: the law.
        seed: of the draw.
    """

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        super().__init__()
        self.clock, self.seed = clock, seed

    def icdf(self, q: Tensor) -> Tensor:
        return self.clock.icdf(q)

    def grid(self, steps: int, noise: Noise | None = None) -> list[float]:
        return self.clock.grid(steps, noise or Noise([self.seed]))
