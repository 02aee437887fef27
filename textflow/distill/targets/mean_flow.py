"""Mean-flow targets: the mean velocity of a step, for a student that is conditioned on the step's end."""

from dataclasses import dataclass

import torch

from textflow.distill.targets.base import Target, TargetInput, TargetOutput
from textflow.distill.targets.jvp import denoiser_jvp
from textflow.paths.base import ProbPath, broadcast_time
from textflow.types import Latents, Times


@dataclass(frozen=True)
class MeanFlow(Target):
    """V(z; s, u) = v + (u - s) dV/ds along (v, 1), V the student's mean velocity from s to u and v the teacher's at s
    (2505.13447, eq. 6, with time reversed); for v of a pair of text and noise the teacher is `DataTeacher`."""

    needs_jvp = True

    def __call__(self, inputs: TargetInput) -> TargetOutput:
        teacher, student, path, z, times, cond, _ = inputs
        s, u = times.unbind(1)
        with torch.no_grad():
            v = path.velocity(z, teacher(z, s, cond).mean, s)
        direction = (v, torch.ones_like(s), torch.zeros_like(u))
        belief, _, rate = denoiser_jvp(student, z, s, u, cond, direction, lambda x, z, s: path.velocity(z, x, s))
        return TargetOutput(x0_of_velocity(path, z, v + broadcast_time(u - s, z) * rate, s), prediction=belief)


def x0_of_velocity(path: ProbPath, z: Latents, v: Latents, s: Times) -> Latents:
    """The clean prediction whose velocity at z is v."""
    zero = torch.zeros_like(z)
    return (v - path.velocity(z, zero, s)) / path.velocity(zero, zero + 1, s)
