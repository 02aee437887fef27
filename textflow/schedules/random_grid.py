"""A grid of random times."""

from torch import Tensor

from textflow.noise import Noise
from textflow.schedules.base import TimeSchedule


class RandomGrid(TimeSchedule):
    """A schedule whose grids are sorted random times instead of quantiles (ELF, released code).

    ELF draws a grid for every batch; here the seed gives one grid for all, so that no text depends on its batch.

    Args:
        schedule: distribution of the times.
        seed: random seed for the grid.
    """

    def __init__(self, schedule: TimeSchedule, seed: int = 0) -> None:
        super().__init__()
        self.schedule, self.seed = schedule, seed

    def icdf(self, q: Tensor) -> Tensor:
        return self.schedule.icdf(q)

    def grid(self, steps: int, noise: Noise | None = None, t_min: float = 0.0, t_max: float = 1.0) -> list[float]:
        return self.schedule.grid(steps, noise or Noise([self.seed]), t_min, t_max)
