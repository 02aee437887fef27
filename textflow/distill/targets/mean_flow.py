"""Mean flows: a student that is told where its step ends learns the mean velocity on the way."""

from dataclasses import dataclass

import torch

from textflow.distill.targets.base import Guess, Lesson, Target, Walk
from textflow.distill.targets.jvp import along
from textflow.objectives.row_indices import Places
from textflow.paths.base import Path, column
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Times


@dataclass(frozen=True)
class MeanFlow(Target):
    """V(z; s, u) = v + (u - s) dV/ds along (v, 1), V the student's mean velocity from s to u and v the teacher's at s
    (2505.13447, eq. 6, with time turned round); for v of a pair of text and noise the teacher is `Data`."""

    tangent = True

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        return torch.stack([s, u], 1)

    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        s, u = times.unbind(1)
        with torch.no_grad():
            v = path.velocity(z, teacher(z, s, given).mean, s)
        direction = (v, torch.ones_like(s), torch.zeros_like(u))
        belief, _, rate = along(student, z, s, u, given, direction, lambda x, z, s: path.velocity(z, x, s))
        return Lesson(guess_of(path, z, v + column(u - s, z) * rate, s), guess=belief)


def guess_of(path: Path, z: Latents, v: Latents, s: Times) -> Latents:
    """The clean guess whose velocity at z is v."""
    zero = torch.zeros_like(z)
    return (v - path.velocity(z, zero, s)) / path.velocity(zero, zero + 1, s)
