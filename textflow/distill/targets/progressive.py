"""Progressive distillation: one step of the student ends where many steps of its teacher end."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from textflow.distill.targets.base import (
    Target,
    TargetInput,
    TargetOutput,
    TimeGrid,
    first_prediction,
    step_coefficients,
)
from textflow.objectives.row_indices import row_mask
from textflow.paths import LinearPath, ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.types import Latents, Times


@dataclass(frozen=True)
class Progressive(Target):
    """x~ = sum_i w_i x_i over the predictions of a teacher's Euler rollout from s to u (ELF, released code).

    w_i = b_i prod_{j > i} a_j / b, with the coefficients a, b of each step and b of the student's: convex, and without
    the cancellation of [z_u - a z_s] / b. At u = 1 all the weight is on the last prediction.

    Args:
        substeps: number of teacher steps, at least 1.
        substep_times: interior times: `random` draws of the schedule (ELF), or its `quantile`s, which changes the
            target [ours].
        order: 1 is Euler; 2 extrapolates the predictions linearly, so that a quarter of the substeps may suffice; it
            changes the target by what `target_error` reports [ours].
        gamma: strength of the teacher's re-injection, >= 0; above 0 it changes the target [ours].
        self_cond_shift: number of student steps by which the self-condition precedes s, >= 0; at 1 it is as noisy as
            in sampling (FastDiSS, 2604.05551, in a form [ours]); above 0 it changes the target.
    """

    substeps: int = 4
    substep_times: Literal["random", "quantile"] = "random"
    order: Literal[1, 2] = 1
    gamma: float = 0.0
    self_cond_shift: float = 0.0

    def __post_init__(self) -> None:
        if self.substeps < 1 or not 0 <= self.gamma < math.inf or not 0 <= self.self_cond_shift < math.inf:
            raise ValueError(
                f"Progressive got substeps {self.substeps}, gamma {self.gamma}, self_cond_shift "
                f"{self.self_cond_shift}; needs at least 1 substep, and finite gamma and self_cond_shift of at least 0"
            )

    @property
    def is_euler(self) -> bool:
        """True if the target is the teacher's plain Euler rollout."""
        return self.order == 1 and self.gamma == 0 and self.self_cond_shift == 0

    def times(self, s: Times, u: Times, time_schedule: TimeSchedule) -> TimeGrid:
        if self.substep_times == "random":
            return interior_times(s, u, time_schedule.sample(len(s), self.substeps - 1, device=s.device).sort(1).values)
        return interior_times(s, u, torch.tensor(time_schedule.grid(self.substeps)[1:-1]).to(s).expand(len(s), -1))

    @torch.no_grad()
    def __call__(self, inputs: TargetInput) -> TargetOutput:
        if (self.order == 2 or self.gamma) and not isinstance(inputs.path, LinearPath):
            raise ValueError(
                f"Progressive has order {self.order} and gamma {self.gamma}, which are for LinearPath; on "
                f"{type(inputs.path).__name__} use order 1 and gamma 0"
            )
        return teacher_rollout(inputs, self.order, self.gamma, self.self_cond_shift)


def interior_times(s: Times, u: Times, fractions: Tensor) -> TimeGrid:
    """s + (u - s) fractions, with both ends [B, n + 2].

    Args:
        s: start of each row's step [B].
        u: end of each row's step [B].
        fractions: increasing numbers in (0, 1) [B, n].
    """
    return torch.cat([s[:, None], s[:, None] + (u - s)[:, None] * fractions, u[:, None]], 1)


def teacher_rollout(
    inputs: TargetInput, order: int = 1, gamma: float = 0.0, self_cond_shift: float = 0.0
) -> TargetOutput:
    """The predictions of a rollout, folded into one: z_t = x0_sum + z_weight z_s + noise, where `x0_sum` holds
    predictions alone and `noise` fresh noise of mean 0, which the fold omits.

    Args:
        inputs: step of the student; each prediction of the teacher is conditioned on the previous one, the first one
            of self-conditioned rows on a blind one.
        order: order of the rollout, 1 or 2.
        gamma: strength of re-injection, >= 0.
        self_cond_shift: number of student steps by which the blind prediction precedes the rollout, >= 0.
    """
    teacher, _, path, z, times, cond, self_cond_rows = inputs
    x0, self_cond, prev_x0 = z, z, z
    x0_sum, noise = torch.zeros_like(z), torch.zeros_like(z)
    z_weight = torch.ones(len(z), 1, 1, dtype=torch.float64, device=z.device)
    for i in range(times.shape[1] - 1):
        t, u = times[:, i], times[:, i + 1]
        if gamma:
            keep = reinjection_keep(t, u, gamma)
            x0_sum, z_weight, noise = keep.to(z.dtype) * x0_sum, keep * z_weight, reinjected_noise(path, noise, keep)
            t = t * keep[:, 0, 0].to(t)
        z_t = cond.restore_prompt(x0_sum + z_weight.to(z.dtype) * z + noise)
        if i:
            prev_x0, x0 = x0, cond.restore_prompt(teacher(z_t, t, cond._replace(self_cond=x0)).mean)
        else:
            first = inputs._replace(z=z_t, times=t[:, None])
            x0, self_cond = first_prediction(first, shifted_state(path, z_t, t, times, self_cond_shift))
        used = x0
        if i and order == 2:  # no extrapolation from a blind prediction to one that is conditioned on it
            allowed = (row_mask(self_cond_rows, z) | (i > 1))[:, None, None]
            used = x0 + (extrapolation_weight(times[:, i - 1], t, u) * allowed).to(z.dtype) * (x0 - prev_x0)
        a, b = step_coefficients(path, t, u)
        x0_sum, z_weight, noise = a.to(z.dtype) * x0_sum + b.to(z.dtype) * used, a * z_weight, a.to(z.dtype) * noise
    a, b = step_coefficients(path, times[:, 0], times[:, -1])
    excess = (z_weight - a) / b  # 0 unless min_one_minus_t is active or noise is re-injected
    return TargetOutput(x0_sum / b.to(z.dtype) + excess.to(z.dtype) * z, self_cond)


def reinjection_keep(t: Times, u: Times, gamma: float) -> Tensor:
    """Fraction of z that re-injection keeps, clip(1 - gamma (u - t), 0, 1), float64 [B, 1, 1]; 1 in a step to the text
    (ELF, released code)."""
    keep = (1 - gamma * (u - t)).clamp(0, 1)
    return torch.where(u >= 1 - 1e-6, 1.0, keep).double()[:, None, None]


def reinjected_noise(path: ProbPath, noise: Latents, keep: Tensor) -> Latents:
    """The noise in z after re-injection, which keeps a part of the old noise and adds fresh noise."""
    fresh = path.mix(torch.zeros_like(noise), torch.randn_like(noise), 0.0)
    return keep.to(noise) * noise + (1 - keep).to(noise) * fresh


def shifted_state(
    path: ProbPath, z: Latents, t: Times, times: TimeGrid, self_cond_shift: float
) -> tuple[Latents, Times] | None:
    """z and its time `self_cond_shift` student steps earlier, with the path's noise; None for the state itself."""
    if not self_cond_shift:
        return None
    then = (t - self_cond_shift * (times[:, -1] - times[:, 0])).clamp_min(0)
    return path.rewind(z, torch.randn_like(z), t, then), then


def extrapolation_weight(prev_t: Times, t: Times, t_next: Times) -> Tensor:
    """Extrapolation length along the line through the predictions at prev_t and t, in units of t - prev_t: its average
    over the step t -> t_next of the straight path, at most 2 (nearest to 4 times as many Euler steps) [B, 1, 1] [ours].
    """
    prev_t, t, t_next = (part.double()[:, None, None] for part in (prev_t, t, t_next))
    rest = (1 - t_next).clamp_min(1e-9)
    ahead = (1 - t) * (1 - rest * torch.log1p((t_next - t) / rest) / (t_next - t).clamp_min(1e-9))
    return (ahead / (t - prev_t).clamp_min(1e-9)).clamp(0, 2)


def invert_step(path: ProbPath, z: Latents, z_end: Latents, s: Times, u: Times) -> Latents:
    """The prediction with which one step takes z to z_end, [z_end - a z] / b: the oracle of the folded form."""
    a, b = (part.to(z.dtype) for part in step_coefficients(path, s, u))
    return (z_end - a * z) / b
