"""Warmup: the learning rate rises linearly from 0, then stays or falls along a cosine."""

import math
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Warmup(LRScheduler):
    """lr = base * step / steps, then constant, or a cosine that ends at `total`; the very first step has lr 0.

    Args:
        optimizer: whose learning rates are the base.
        steps: optimizer steps of the rise; 0 for none.
        shape: of what follows the rise.
        total: optimizer steps at which the cosine ends; needed by `cosine` alone.
        floor: end of the cosine as a fraction of the base, in [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        shape: Literal["constant", "cosine"] = "constant",
        total: int | None = None,
        floor: float = 0.1,
    ) -> None:
        if shape not in ("constant", "cosine"):
            raise ValueError(f"Warmup got shape={shape!r}; choose 'constant' or 'cosine'")
        if shape == "cosine" and (total is None or total <= steps):
            raise ValueError(f"Warmup(shape='cosine') got total={total}; set it to the last step, above steps={steps}")
        if steps < 0 or not 0 <= floor <= 1:
            raise ValueError(f"Warmup got steps={steps}, floor={floor}; needs steps >= 0 and floor in [0, 1]")
        self.steps, self.shape, self.total, self.floor = steps, shape, total, floor
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The learning rate of each group at the present step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def factor(self, step: int) -> float:
        """What the base is multiplied with at a step, counted from 0."""
        if step < self.steps:
            return step / self.steps
        if self.shape == "constant" or self.total is None:
            return 1.0
        done = min((step - self.steps) / (self.total - self.steps), 1.0)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2
