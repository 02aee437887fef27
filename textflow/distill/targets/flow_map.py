"""Flow-map targets for a student that is conditioned on the end of its step, from the consistency of its own steps.

X(z; s, u) = a z + b D(z; s, u), a and b the path's (FMLM, 2602.16813; 2505.18825, on the straight path). Without a
teacher, the student's own diagonal prediction D(z; s, s) takes the role of the teacher's. Derivatives of a and b are
those of the path: db/ds = -a c_s and z_u' = ... + c_u x, c the velocity's gain, 1 / (1 - t) on the straight path.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.distill.targets.base import (
    Target,
    TargetInput,
    TargetOutput,
    TimeGrid,
    step_coefficients,
    velocity_gain,
)
from textflow.distill.targets.jvp import denoiser_jvp
from textflow.nets.dit import schedule_cdf
from textflow.paths import LinearPath, ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.types import Latents, Times


@dataclass(frozen=True)
class SemiGroup(Target):
    """One step is two: D(z; s, u) = lambda D(z; s, m) + (1 - lambda) D(X(z; s, m); m, u), lambda = a_mu b_sm / b_su;
    m is the midpoint in the CDF of the schedule (PSD)."""

    def times(self, s: Times, u: Times, time_schedule: TimeSchedule) -> TimeGrid:
        start, end = (schedule_cdf(time_schedule, t.double()) for t in (s, u))
        return torch.stack([s, time_schedule.icdf((start + end) / 2).to(s), u], 1)

    @torch.no_grad()
    def __call__(self, inputs: TargetInput) -> TargetOutput:
        _, student, path, z, times, cond, _ = inputs
        s, m, u = times.unbind(1)
        near = student(z, s, cond._replace(end_time=m)).mean
        far = student(path.step(z, near, s, m), m, cond._replace(end_time=u)).mean
        (_, b_first), (a, b), (_, b_full) = (step_coefficients(path, *ends) for ends in ((s, m), (m, u), (s, u)))
        whole = torch.where(b_full > 0, b_full, 1.0)  # both ends may round to one time
        share = torch.where(b_full > 0, a * b_first / whole, 1.0)
        return TargetOutput(share.to(z.dtype) * near + (b / whole).to(z.dtype) * far)


@dataclass(frozen=True)
class Eulerian(Target):
    """The end is constant along the flow: D = D_s + (1 - s) (u - s) / (1 - u) dD/ds along ((D_s - z) / (1 - s), 1),
    D_s the teacher's prediction (ESD); on another path D_s + b / (a c_s) dD/ds along its velocity [ours].

    Args:
        min_one_minus_t: lower bound of the divisor 1 - u, or a, > 0, since the formula has no limit at u = 1.
    """

    needs_jvp = True
    min_one_minus_t: float = 1e-3

    def __call__(self, inputs: TargetInput) -> TargetOutput:
        teacher, student, path, z, times, cond, _ = inputs
        s, u = times.unbind(1)
        with torch.no_grad():
            x0 = teacher(z, s, cond).mean
        direction = (path.velocity(z, x0, s), torch.ones_like(s), torch.zeros_like(u))
        belief, _, rate = denoiser_jvp(student, z, s, u, cond, direction)
        return TargetOutput(x0 + self.factor(path, s, u).to(z.dtype) * rate, prediction=belief)

    def factor(self, path: ProbPath, s: Times, u: Times) -> Tensor:
        """Weight of the derivative [B, 1, 1]."""
        if isinstance(path, LinearPath):
            return ((1 - s) * (u - s) / (1 - u).clamp_min(self.min_one_minus_t))[:, None, None]
        a, b = step_coefficients(path, s, u)
        return b / (a.clamp_min(self.min_one_minus_t) * velocity_gain(path, s))


@dataclass(frozen=True)
class Lagrangian(Target):
    """The end moves with the flow: D = D_u(X) - (u - s) (1 - u) / (1 - s) dD/du, D_u the teacher's prediction at X
    (LSD); on another path D_u(X) - b / c_u dD/du [ours].

    Args:
        project_to_simplex: whether the target is projected to the simplex, for one-hot latents.
    """

    needs_jvp = True
    project_to_simplex: bool = True

    def __call__(self, inputs: TargetInput) -> TargetOutput:
        teacher, student, path, z, times, cond, _ = inputs
        s, u = times.unbind(1)
        direction = (torch.zeros_like(z), torch.zeros_like(s), torch.ones_like(u))
        belief, prediction, rate = denoiser_jvp(student, z, s, u, cond, direction)
        with torch.no_grad():
            x0 = teacher(path.step(z, prediction, s, u), u, cond).mean
            x0_target = x0 - self.factor(path, s, u).to(z.dtype) * rate
            x0_target = simplex_projection(x0_target) if self.project_to_simplex else x0_target
            return TargetOutput(x0_target, prediction=belief)

    def factor(self, path: ProbPath, s: Times, u: Times) -> Tensor:
        """Weight of the derivative [B, 1, 1]."""
        if isinstance(path, LinearPath):
            return ((u - s) * (1 - u) / (1 - s).clamp_min(1e-6))[:, None, None]
        return step_coefficients(path, s, u)[1] / velocity_gain(path, u)


@dataclass(frozen=True)
class TeacherFlowMap(Target):
    """The prediction of a teacher that is conditioned on the end of its step (FMLM, stage 2 of two)."""

    @torch.no_grad()
    def __call__(self, inputs: TargetInput) -> TargetOutput:
        s, u = inputs.times.unbind(1)
        return TargetOutput(inputs.teacher(inputs.z, s, inputs.cond._replace(end_time=u)).mean)


def simplex_projection(x: Latents) -> Latents:
    """The nearest point with x >= 0 and sum 1, over the last axis (sparsemax, 1602.02068)."""
    top = x.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    over = (top.cumsum(-1) - 1) / count  # the threshold if the first `count` entries stay above 0
    threshold = over.gather(-1, (top > over).sum(-1, keepdim=True) - 1)
    return (x - threshold).clamp_min(0)
