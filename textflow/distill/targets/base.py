"""Target: the clean prediction to train a student towards, from a teacher or from the student itself."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.objectives.row_indices import RowIndices, row_mask
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.types import Conditioning, Latents, Posterior, Times

TimeGrid: TypeAlias = Float[Tensor, "B times"]  # increasing times of each row, from the start of a step to its end


@runtime_checkable
class PredictFn(Protocol):
    """A denoiser with one time per row and its conditioning, such as any `Denoiser`."""

    def __call__(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior: ...


class TargetOutput(NamedTuple):
    """Target and self-condition of a student.

    Args:
        x0_target: target of the clean prediction at (z, s) [B, S, d].
        self_cond: self-condition of the student [B, S, d].
        weight: weight of each row's error [B]; None is 1.
        prediction: student's belief at (z, s) with its gradient, if the target computes it.
    """

    x0_target: Latents
    self_cond: Latents | None = None
    weight: Times | None = None
    prediction: Posterior | None = None


class TargetInput(NamedTuple):
    """One step of the student, from the first to the last of `times`, and the parts that its target may evaluate.

    Args:
        teacher: denoiser of the teacher, or `DataTeacher` where a target allows it.
        student: denoiser of the student, or its moving average; only some targets evaluate it.
        path: probability path that the latents follow.
        z: latents at the first time [B, S, d].
        times: times of each row's rollout [B, times].
        cond: guidance and prompt; z contains the prompt already.
        self_cond_rows: rows that are self-conditioned.
    """

    teacher: PredictFn
    student: PredictFn
    path: ProbPath
    z: Latents
    times: TimeGrid
    cond: Conditioning
    self_cond_rows: RowIndices


class Target(ABC):
    """A rule for the clean prediction at (z, s) with which one step of the student, s -> u, ends at the right state."""

    needs_jvp: ClassVar[bool] = False  # whether it differentiates the student forward-mode

    def times(self, s: Times, u: Times, time_schedule: TimeSchedule) -> TimeGrid:
        """Times of a rollout from s to u, both included; interior times may be drawn from the schedule."""
        return torch.stack([s, u], 1)

    @abstractmethod
    def __call__(self, inputs: TargetInput) -> TargetOutput:
        """The target of one step of the student."""


class DataTeacher:
    """The data as a teacher: its prediction is x, its velocity that of one pair of text and noise.

    Args:
        x: clean latents [B, S, d].
    """

    def __init__(self, x: Latents) -> None:
        self.x = x

    def __call__(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(self.x)


def first_prediction(inputs: TargetInput, before: tuple[Latents, Times] | None = None) -> tuple[Latents, Latents]:
    """The teacher's first prediction, and the self-condition of teacher and student: on self-conditioned rows the
    teacher's own blind prediction, at the first state or at a state `before` (z and t). On the others the blind
    prediction is the first one, so no evaluation is wasted."""
    teacher, z, cond, rows = inputs.teacher, inputs.z, inputs.cond, inputs.self_cond_rows
    t = then = inputs.times[:, 0]
    blank, at, self_cond_mask = cond.restore_prompt(torch.zeros_like(z)), z, row_mask(rows, z)
    if before is not None:
        at = torch.where(self_cond_mask[:, None, None], cond.restore_prompt(before[0]), z)
        then = torch.where(self_cond_mask, before[1], t)
    blind = cond.restore_prompt(teacher(at, then, cond._replace(self_cond=blank)).mean)
    self_cond = torch.where(self_cond_mask[:, None, None], blind, blank)
    conditioned = cond._replace(self_cond=self_cond).rows(rows)
    second = teacher(z[rows], t[rows], conditioned).mean.to(blind.dtype)
    return blind.index_put((rows,), conditioned.restore_prompt(second)), self_cond


def step_coefficients(path: ProbPath, t: Times, u: Times) -> tuple[Tensor, Tensor]:
    """a, b of the step z_u = a z_t + b x, float64 [B, 1, 1]; on the straight path b = (u - t) / (1 - t), a = 1 - b."""
    one = torch.ones(len(t), 1, 1, dtype=torch.float64, device=t.device)
    return path.step(one, 0 * one, t, u), path.step(0 * one, one, t, u)


def velocity_gain(path: ProbPath, t: Times) -> Tensor:
    """dv / dx of the velocity v at t, float64 [B, 1, 1]; 1 / (1 - t) on the straight path."""
    one = torch.ones(len(t), 1, 1, dtype=torch.float64, device=t.device)
    return path.velocity(0 * one, one, t)
