"""Target: what a student is to answer, made from a teacher or from the student itself."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.objectives.row_indices import Places, among
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Posterior, Times, keep, pick

Walk: TypeAlias = Float[Tensor, "B times"]  # increasing times of each row, from the start of a step to its end


@runtime_checkable
class Guess(Protocol):
    """A denoiser with a time a row, as every `Denoiser` is; what it is told besides is in `given`."""

    def __call__(self, z: Latents, t: Times, given: Given = Given()) -> Posterior: ...


class Lesson(NamedTuple):
    """What a student is shown and what it is to answer.

    Args:
        goal: the clean guess to be made at (z, s).
        prev: the self-condition that the student is shown.
        weight: of a row's error; none is 1.
        guess: the student's own belief at (z, s), with its gradient, where the target made it on the way.
    """

    goal: Latents
    prev: Latents | None = None
    weight: Times | None = None
    guess: Posterior | None = None


class Target(ABC):
    """From z at s: the clean guess with which one step of the student, s -> u, ends where it should."""

    tangent: ClassVar[bool] = False  # whether it differentiates the student forward-mode

    @abstractmethod
    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        """The times of a walk from s to u, both included; those between may be drawn from a clock."""

    @abstractmethod
    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        """
        Args:
            teacher: knows the way; the data themselves (`Data`) can stand in where a target says so.
            student: who is taught, or its average; only some targets ask it.
            path: carries z.
            z: at the first time.
            times: of each row's walk.
            given: guidance and prompt; the prompt stands in z already.
            again: the rows that see a guess of their own (self-conditioning).
        """


class Data:
    """The data as a teacher: its guess is the clean text itself, its velocity that of one pair of text and noise.

    Args:
        x: clean latents.
    """

    def __init__(self, x: Latents) -> None:
        self.x = x

    def __call__(self, z: Latents, t: Times, given: Given = Given()) -> Posterior:
        return Posterior(self.x)


def opening(
    teacher: Guess, z: Latents, t: Times, given: Given, again: Places, before: tuple[Latents, Times] | None = None
) -> tuple[Latents, Latents]:
    """The teacher's first guess, and the self-condition that it and the student are shown: on the rows `again` the
    teacher's own blind guess, at z and t or at a state `before`. On the others the blind guess is the first guess, so
    no row is asked in vain."""
    blank, at, then, blind = keep(torch.zeros_like(z), given), z, t, among(again, z)
    if before is not None:
        at, then = torch.where(blind[:, None, None], keep(before[0], given), z), torch.where(blind, before[1], t)
    guess = keep(teacher(at, then, given._replace(prev=blank)).mean, given)
    prev = torch.where(blind[:, None, None], guess, blank)
    twice = teacher(z[again], t[again], pick(given._replace(prev=prev), again)).mean
    return guess.index_put((again,), keep(twice.to(guess.dtype), pick(given, again))), prev


def share(path: Path, t: Times, u: Times) -> tuple[Tensor, Tensor]:
    """a, b of the step z_u = a z_t + b x, float64 [B, 1, 1]; on the straight path b = (u - t) / (1 - t), a = 1 - b."""
    one = torch.ones(len(t), 1, 1, dtype=torch.float64, device=t.device)
    return path.step(one, 0 * one, t, u), path.step(0 * one, one, t, u)
