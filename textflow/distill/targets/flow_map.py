"""Flow maps: a student that is told where its step ends learns what its own steps say of each other.

X(z; s, u) = a z + b D(z; s, u) on the straight path (FMLM, 2602.16813; 2505.18825). Where a target asks a teacher and
there is none, the student's own instant guess D(z; s, s) stands in.
"""

from dataclasses import dataclass

import torch

from textflow.distill.targets.base import Guess, Lesson, Target, Walk, share
from textflow.distill.targets.jvp import along
from textflow.nets.dit import cdf
from textflow.objectives.row_indices import Places
from textflow.paths.base import Path, column
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Times


@dataclass(frozen=True)
class SemiGroup(Target):
    """One step is two: D(z; s, u) = lambda D(z; s, m) + (1 - lambda) D(X(z; s, m); m, u), lambda = a_mu b_sm / b_su; m
    lies in the middle by the clock (PSD)."""

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        middle = clock.icdf((cdf(clock, s.double()) + cdf(clock, u.double())) / 2).to(s)
        return torch.stack([s, middle, u], 1)

    @torch.no_grad()
    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        s, m, u = times.unbind(1)
        near = student(z, s, given._replace(until=m)).mean
        far = student(path.step(z, near, s, m), m, given._replace(until=u)).mean
        (a, b), (_, first), (_, whole) = share(path, m, u), share(path, s, m), share(path, s, u)
        return Lesson((a * first / whole).to(z.dtype) * near + (b / whole).to(z.dtype) * far)


@dataclass(frozen=True)
class Eulerian(Target):
    """The end does not move along the flow: D = D_s + (1 - s) (u - s) / (1 - u) dD/ds along ((D_s - z) / (1 - s), 1),
    D_s the teacher's guess (ESD).

    Args:
        floor: smallest 1 - u that is divided by: the form has no limit there.
    """

    tangent = True
    floor: float = 1e-3

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        return torch.stack([s, u], 1)

    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        s, u = times.unbind(1)
        with torch.no_grad():
            here = teacher(z, s, given).mean
        direction = (path.velocity(z, here, s), torch.ones_like(s), torch.zeros_like(u))
        belief, _, rate = along(student, z, s, u, given, direction)
        factor = (1 - s) * (u - s) / (1 - u).clamp_min(self.floor)
        return Lesson(here + column(factor, z) * rate, guess=belief)


@dataclass(frozen=True)
class Lagrangian(Target):
    """The end moves with the flow: D = D_u(X) - (u - s) (1 - u) / (1 - s) dD/du, D_u the teacher's guess at X (LSD).

    Args:
        project: take the nearest point of the simplex, for one-hot latents.
    """

    tangent = True
    project: bool = True

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        return torch.stack([s, u], 1)

    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        s, u = times.unbind(1)
        direction = (torch.zeros_like(z), torch.zeros_like(s), torch.ones_like(u))
        belief, guess, rate = along(student, z, s, u, given, direction)
        with torch.no_grad():
            there = teacher(path.step(z, guess, s, u), u, given).mean
            goal = there - column((u - s) * (1 - u) / (1 - s).clamp_min(1e-6), z) * rate
            return Lesson(simplex(goal) if self.project else goal, guess=belief)


@dataclass(frozen=True)
class Copy(Target):
    """What a teacher that is told the end of its step says (FMLM in two stages: the second)."""

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        return torch.stack([s, u], 1)

    @torch.no_grad()
    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        return Lesson(teacher(z, times[:, 0], given._replace(until=times[:, 1])).mean)


def simplex(x: Latents) -> Latents:
    """The nearest point with x >= 0 and sum 1, over the last axis (sparsemax, 1602.02068)."""
    top = x.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    over = (top.cumsum(-1) - 1) / count  # the level if the first `count` entries stay above 0
    level = over.gather(-1, (top > over).sum(-1, keepdim=True) - 1)
    return (x - level).clamp_min(0)
