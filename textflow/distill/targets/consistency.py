"""Consistency targets: equal predictions along a trajectory of the teacher."""

from dataclasses import dataclass

import torch

from textflow.distill.targets.base import Target, TargetInput, TargetOutput, first_prediction
from textflow.objectives.row_indices import row_mask


@dataclass(frozen=True)
class Consistency(Target):
    """The target of D(z_s; s) is D(z_u; u), z_u one step of the teacher later; D(z; 1) = z (2303.01469, alg. 2).

    D(z_u; u) comes from the student's moving average (`StepDistillation.ema_net`), without gradient. D is a clean
    prediction and u is nearer to the text; `StepDistillation(steps=N)` makes steps of length 1 / N. On self-conditioned
    rows D(z_u; u) is conditioned on the teacher's prediction [ours].
    """

    @torch.no_grad()
    def __call__(self, inputs: TargetInput) -> TargetOutput:
        _, student, path, z, times, cond, self_cond_rows = inputs
        s, u = times[:, 0], times[:, -1]
        prediction, self_cond = first_prediction(inputs)
        ahead = cond.restore_prompt(path.step(z, prediction, s, u))
        blank = cond.restore_prompt(torch.zeros_like(z))
        later_cond = torch.where(row_mask(self_cond_rows, z)[:, None, None], prediction, blank)
        later = student(ahead, u.clamp_max(1), cond._replace(self_cond=later_cond)).mean
        return TargetOutput(torch.where((u >= 1)[:, None, None], ahead, later), self_cond)
