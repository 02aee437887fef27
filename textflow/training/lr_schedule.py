"""WarmupLR: the learning rate rises linearly from 0, then stays or falls along a cosine."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupLR(LRScheduler):
    """lr = base * step / warmup_steps, then constant, or a cosine until the end; the very first step has lr 0.

    Args:
        optimizer: optimizer whose learning rates are the base rates.
        warmup_steps: number of warmup steps, >= 0; 0 for no warmup.
        decay: schedule after warmup, constant or cosine.
        total_steps: optimizer step at which the cosine ends; default: the last step of the training.
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
        if decay == "cosine" and total_steps is not None and total_steps <= warmup_steps:
            raise ValueError(
                f"WarmupLR(decay='cosine') got total_steps={total_steps}; set it to the last step, above "
                f"warmup_steps={warmup_steps}, or leave it out to end with the training"
            )
        if warmup_steps < 0 or not 0 <= min_lr_ratio <= 1:
            raise ValueError(
                f"WarmupLR got warmup_steps={warmup_steps}, min_lr_ratio={min_lr_ratio}; needs warmup_steps >= 0 and "
                "min_lr_ratio in [0, 1]"
            )
        self.warmup_steps, self.decay = warmup_steps, decay
        self.total_steps, self.min_lr_ratio = total_steps, min_lr_ratio
        self.training_steps: int | None = None  # set by `set_training_steps`
        super().__init__(optimizer)

    def set_training_steps(self, steps: int) -> None:
        """Set the number of optimizer steps of the training, with which the cosine ends unless it has total_steps."""
        self.training_steps = steps

    def get_lr(self) -> list[Any]:
        """The learning rate of each group at the present step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def factor(self, step: int) -> float:
        """Multiplier of the base rate at a step, counted from 0."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        end = self.total_steps or self.training_steps
        if self.decay == "constant" or (end is None and step == self.warmup_steps):
            return 1.0
        if end is None:
            raise ValueError(
                "WarmupLR(decay='cosine') has total_steps=None outside a training; set it to the last step"
            )
        progress = min((step - self.warmup_steps) / max(end - self.warmup_steps, 1), 1.0)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved step; the schedule ends where this one does, so that a longer training follows it."""
        own = {"total_steps": self.total_steps, "training_steps": self.training_steps}
        super().load_state_dict({**state_dict, **own})
        if {name: state_dict.get(name) for name in own} != own:
            self._last_lr = self.get_lr()
            for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                group["lr"] = rate

    def describe(self) -> str:
        """One line: where warmup and cosine end, and what of the training lies outside them."""
        line, steps = f"learning rate: warmup over {self.warmup_steps} steps", self.training_steps
        if steps is not None and steps <= self.warmup_steps:
            return f"{line}; the training ends at step {steps}, before the warmup does"
        end = self.total_steps or steps
        if self.decay == "constant" or end is None:
            return f"{line}, then {self.decay}"
        line += f", then cosine to {self.min_lr_ratio:.0%} at step {end}"
        if steps is None or steps == end:
            return line
        rest = f"{steps - end} steps more, at that rate" if steps > end else "before the cosine does"
        return f"{line} (total_steps); the training ends at step {steps}, {rest}"


def short_schedule(schedule: LRScheduler, max_steps: int) -> list[str]:
    """Line that warns of a schedule of torch which is over before the training; a WarmupLR says its own end."""
    totals = {name: getattr(schedule, name, None) for name in ("T_max", "total_steps", "total_iters")}
    owner = type(schedule).__name__
    return [
        f"{owner}: its {name} is {total:,}, but the training takes {max_steps:,} steps; give it {name}: {max_steps}"
        for name, total in totals.items()
        if not isinstance(schedule, WarmupLR) and isinstance(total, int) and total < max_steps
    ]
