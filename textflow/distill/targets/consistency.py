"""Consistency: guesses along one path of the teacher agree."""

from dataclasses import dataclass

import torch

from textflow.distill.targets.base import Guess, Lesson, Target, Walk, opening
from textflow.objectives.row_indices import Places, among
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Times, keep


@dataclass(frozen=True)
class Consistency(Target):
    """D(z_s; s) is to be D(z_u; u), z_u one step of the teacher further; D(z; 1) = z (2303.01469, alg. 2).

    D(z_u; u) is asked of the student's average (`Distill.average`) and carries no gradient. Here D is a clean guess and
    u is nearer to the text; `Distill(steps=N)` makes the steps 1 / N long. On self-conditioned rows D(z_u; u) sees the
    teacher's guess [ours].
    """

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        return torch.stack([s, u], 1)

    @torch.no_grad()
    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        s, u = times[:, 0], times[:, -1]
        guess, prev = opening(teacher, z, s, given, again)
        ahead = keep(path.step(z, guess, s, u), given)
        blank = keep(torch.zeros_like(z), given)
        seen = torch.where(among(again, z)[:, None, None], guess, blank)
        later = student(ahead, u.clamp_max(1), given._replace(prev=seen)).mean
        return Lesson(torch.where((u >= 1)[:, None, None], ahead, later), prev)
