"""The original progressive distillation: the student becomes the teacher and the steps halve each round."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from textflow.distill.targets.base import Target, TargetInput, TargetOutput, TimeGrid
from textflow.distill.targets.progressive import interior_times, teacher_rollout
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.types import Times


@dataclass(frozen=True)
class SalimansHo(Target):
    """Two teacher steps of equal length in one step of the student (2202.00512). The published rounds, whose teacher is
    the last round's student, need `StepDistillation(update_teacher=True)`.

    Args:
        weight: weight of a row's error: `truncated` is max(SNR, 1), `snr+1` is SNR + 1, `one` is 1; SNR is the path's
            at s for latents of unit variance.
    """

    weight: Literal["truncated", "snr+1", "one"] = "truncated"

    def times(self, s: Times, u: Times, time_schedule: TimeSchedule) -> TimeGrid:
        return interior_times(s, u, torch.full_like(s, 0.5)[:, None])

    @torch.no_grad()
    def __call__(self, inputs: TargetInput) -> TargetOutput:
        return teacher_rollout(inputs)._replace(weight=self.loss_weight(inputs.path, inputs.times[:, 0]))

    def loss_weight(self, path: ProbPath, s: Times) -> Tensor:
        """Weight of the error at time s [B]."""
        snr = (path.alpha(s) / path.sigma(s).clamp_min(1e-4)) ** 2
        return {"truncated": snr.clamp_min(1), "snr+1": snr + 1, "one": torch.ones_like(snr)}[self.weight]
