"""Progressive distillation: one step of the student ends where many of its teacher do."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from textflow.distill.targets.base import Guess, Lesson, Target, Walk, opening, share
from textflow.objectives.row_indices import Places, among
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Times, keep


@dataclass(frozen=True)
class Progressive(Target):
    """x~ = sum_i w_i x_i over the guesses of a teacher that walks from s to u by Euler's rule (ELF, released code).

    w_i = b_i prod_{j > i} a_j / b, with the shares a, b of each step and b of the student's: convex, and without the
    cancellation of [z_u - a z_s] / b. At u = 1 all the weight is on the last guess.

    Args:
        substeps: steps of the teacher, at least 1.
        spread: the times between are `drawn` from the clock (ELF), or its `even` quantiles, which changes the target
            [ours].
        order: 1 is Euler; 2 continues the guesses in a straight line, so that a quarter of the substeps may do: it
            changes the target, by what `target_error` says [ours].
        gamma: strength of the teacher's re-injection, >= 0; above 0 it changes the target [ours].
        earlier: by how many of the student's steps the self-condition lies before s, >= 0: at 1 it is as noisy as in
            sampling (FastDiSS, 2604.05551, in a form [ours]); above 0 it changes the target.
    """

    substeps: int = 4
    spread: Literal["drawn", "even"] = "drawn"
    order: Literal[1, 2] = 1
    gamma: float = 0.0
    earlier: float = 0.0

    def __post_init__(self) -> None:
        if self.substeps < 1 or not 0 <= self.gamma < math.inf or not 0 <= self.earlier < math.inf:
            raise ValueError(
                f"Progressive got substeps {self.substeps}, gamma {self.gamma}, earlier {self.earlier}; needs at least"
                " 1 substep, and finite numbers from 0 on"
            )

    @property
    def plain(self) -> bool:
        """Whether it is the teacher's walk by Euler's rule."""
        return self.order == 1 and self.gamma == 0 and self.earlier == 0

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        if self.spread == "drawn":
            return between(s, u, clock.draw(len(s), self.substeps - 1, device=s.device).sort(1).values)
        return between(s, u, torch.tensor(clock.grid(self.substeps)[1:-1]).to(s).expand(len(s), -1))

    @torch.no_grad()
    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        return walk(teacher, path, z, times, given, again, self.order, self.gamma, self.earlier)


def between(s: Times, u: Times, fractions: Tensor) -> Walk:
    """s + (u - s) f, ends included.

    Args:
        s: start of each row.
        u: its end.
        fractions: increasing in (0, 1), [B, n].
    """
    return torch.cat([s[:, None], s[:, None] + (u - s)[:, None] * fractions, u[:, None]], 1)


def walk(
    teacher: Guess,
    path: Path,
    z: Latents,
    times: Walk,
    given: Given,
    again: Places,
    order: int = 1,
    gamma: float = 0.0,
    earlier: float = 0.0,
) -> Lesson:
    """The guesses of a walk, folded into one: z_t = taken + left z_s + stir, where `taken` holds guesses alone and
    `stir` fresh noise, whose mean is 0 and which is left out of the fold.

    Args:
        teacher: each guess sees the one before.
        path: carries z.
        z: at the first time.
        times: of each row.
        given: guidance and prompt.
        again: the rows whose first guess sees a blind one.
        order: 1 or 2.
        gamma: strength of re-injection.
        earlier: by how many walks the blind guess lies before this one.
    """
    guess, prev, last = z, z, z
    taken, stir = torch.zeros_like(z), torch.zeros_like(z)
    left = torch.ones(len(z), 1, 1, dtype=torch.float64, device=z.device)
    for i in range(times.shape[1] - 1):
        t, u = times[:, i], times[:, i + 1]
        if gamma:
            stay = back(t, u, gamma)
            taken, left, stir = stay.to(z.dtype) * taken, stay * left, stirred(path, stir, stay)
            t = t * stay[:, 0, 0].to(t)
        here = keep(taken + left.to(z.dtype) * z + stir, given)
        if i:
            last, guess = guess, keep(teacher(here, t, given._replace(prev=guess)).mean, given)
        else:
            guess, prev = opening(teacher, here, t, given, again, before(path, here, t, times, earlier))
        used = guess
        if i and order == 2:  # not from a blind guess to one that saw it
            seen = (among(again, z) | (i > 1))[:, None, None]
            used = guess + (reach(times[:, i - 1], t, u) * seen).to(z.dtype) * (guess - last)
        a, b = share(path, t, u)
        taken, left, stir = a.to(z.dtype) * taken + b.to(z.dtype) * used, a * left, a.to(z.dtype) * stir
    a, b = share(path, times[:, 0], times[:, -1])
    over = (left - a) / b  # 0 where no floor under 1 - t acts and nothing is re-injected
    return Lesson(taken / b.to(z.dtype) + over.to(z.dtype) * z, prev)


def back(t: Times, u: Times, gamma: float) -> Tensor:
    """Share that re-injection leaves of z, clip(1 - gamma (u - t), 0, 1), float64 [B, 1, 1]; 1 in a step to the text
    (ELF, released code)."""
    stay = (1 - gamma * (u - t)).clamp(0, 1)
    return torch.where(u >= 1 - 1e-6, 1.0, stay).double()[:, None, None]


def stirred(path: Path, stir: Latents, stay: Tensor) -> Latents:
    """Fresh noise in z after a step back."""
    noise = path.mix(torch.zeros_like(stir), torch.randn_like(stir), 0.0)
    return stay.to(stir) * stir + (1 - stay).to(stir) * noise


def before(path: Path, z: Latents, t: Times, times: Walk, earlier: float) -> tuple[Latents, Times] | None:
    """z and its time `earlier` walks before, with the noise that the path has there; None for the state itself."""
    if not earlier:
        return None
    then = (t - earlier * (times[:, -1] - times[:, 0])).clamp_min(0)
    return path.rewind(z, torch.randn_like(z), t, then), then


def reach(back: Times, t: Times, u: Times) -> Tensor:
    """How far the line through the guesses at back and t is followed, in units of t - back: what it gives on average
    over the step t -> u of the straight path, at most 2 (nearest to four times as many Euler steps); [B, 1, 1] [ours].
    """
    back, t, u = (part.double()[:, None, None] for part in (back, t, u))
    rest = (1 - u).clamp_min(1e-9)
    ahead = (1 - t) * (1 - rest * torch.log1p((u - t) / rest) / (u - t).clamp_min(1e-9))
    return (ahead / (t - back).clamp_min(1e-9)).clamp(0, 2)


def inversion(path: Path, z: Latents, end: Latents, s: Times, u: Times) -> Latents:
    """The guess with which one step takes z to `end`, [end - a z] / b: the oracle of the folded form."""
    a, b = (part.to(z.dtype) for part in share(path, s, u))
    return (end - a * z) / b
