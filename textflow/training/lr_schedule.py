"""WarmupLR: the learning rate rises linearly from 0, then stays or falls along a cosine."""

import math
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupLR(LRScheduler):
    """lr = base * step / warmup_steps, then constant, or a cosine until `total_steps`; the very first step has lr 0.

    Args:
        optimizer: optimizer whose learning rates are the base rates.
        warmup_steps: number of warmup steps, >= 0; 0 for no warmup.
        decay: schedule after warmup, constant or cosine.
        total_steps: optimizer step at which the cosine ends; required for `cosine`.
        min_lr_ratio: final learning rate of the cosine as a fraction of the base rate, in [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        decay: Literal["constant", "cosine"] = "constant",
        total_steps: int | None = None,
        min_lr_ratio: float = 0.1,
    ) -> None:
        if decay not in ("constant", "cosine"):
            raise ValueError(f"WarmupLR got decay={decay!r}; choose 'constant' or 'cosine'")
        if decay == "cosine" and (total_steps is None or total_steps <= warmup_steps):
            raise ValueError(
                f"WarmupLR(decay='cosine') got total_steps={total_steps}; set it to the last step, above "
                f"warmup_steps={warmup_steps}"
            )
        if warmup_steps < 0 or not 0 <= min_lr_ratio <= 1:
            raise ValueError(
                f"WarmupLR got warmup_steps={warmup_steps}, min_lr_ratio={min_lr_ratio}; needs warmup_steps >= 0 and "
                "min_lr_ratio in [0, 1]"
            )
        self.warmup_steps, self.decay = warmup_steps, decay
        self.total_steps, self.min_lr_ratio = total_steps, min_lr_ratio
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The learning rate of each group at the present step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def factor(self, step: int) -> float:
        """Multiplier of the base rate at a step, counted from 0."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        if self.decay == "constant" or self.total_steps is None:
            return 1.0
        progress = min((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 1.0)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2
