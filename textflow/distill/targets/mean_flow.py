"""Mean-flow targets: the mean velocity of a step, for a student that is conditioned on the step's end."""

from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.distill.targets.base import Target, TargetInput, TargetOutput, step_coefficients, velocity_gain
from textflow.distill.targets.jvp import denoiser_jvp
from textflow.paths import LinearPath
from textflow.paths.base import ProbPath, broadcast_time
from textflow.types import Latents, Times


@dataclass(frozen=True)
class MeanFlow(Target):
    """V(z; s, u) = v + (u - s) dV/ds along (v, 1), V the student's mean velocity from s to u and v the teacher's at s
    (2505.13447, eq. 6, with time reversed); for v of a pair of text and noise the teacher is `DataTeacher`.

    Of clean predictions this is D + w (D_s - D) + (u - s) dD/ds, w = (u - s) a c_s / b; on the straight path w = a.
    """

    needs_jvp = True

    def __call__(self, inputs: TargetInput) -> TargetOutput:
        teacher, student, path, z, times, cond, _ = inputs
        s, u = times.unbind(1)
        with torch.no_grad():
            x0 = teacher(z, s, cond).mean
            v = path.velocity(z, x0, s)
        direction = (v, torch.ones_like(s), torch.zeros_like(u))
        if not isinstance(path, LinearPath):
            belief, mean, rate = denoiser_jvp(student, z, s, u, cond, direction)
            weight = step_coefficients(path, s, u)[0] * velocity_gain(path, s) / mean_velocity_gain(path, s, u)
            change = weight.to(z.dtype) * (x0 - mean.detach()) + broadcast_time(u - s, z) * rate
            return TargetOutput(mean.detach() + change, prediction=belief)
        belief, _, rate = denoiser_jvp(student, z, s, u, cond, direction, lambda x, z, s: path.velocity(z, x, s))
        return TargetOutput(x0_of_velocity(path, z, v + broadcast_time(u - s, z) * rate, s), prediction=belief)


def mean_velocity_gain(path: ProbPath, s: Times, u: Times) -> Tensor:
    """dV / dx of the mean velocity from s to u, b / (u - s), float64 [B, 1, 1]; the velocity's where u = s."""
    length = (u - s).double()[:, None, None]
    gain = step_coefficients(path, s, u)[1] / torch.where(length > 0, length, 1.0)
    return torch.where(length > 0, gain, velocity_gain(path, s))


def x0_of_velocity(path: ProbPath, z: Latents, v: Latents, s: Times) -> Latents:
    """The clean prediction whose velocity at z is v."""
    zero = torch.zeros_like(z)
    return (v - path.velocity(z, zero, s)) / path.velocity(zero, zero + 1, s)
