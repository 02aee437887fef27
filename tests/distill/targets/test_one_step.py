"""Targets of one or two steps of a teacher that is exact."""

from collections.abc import Callable
from dataclasses import replace

import torch

from tests.helpers.gaussian_clouds import FREE, ROWS, Counting, exact, some, start
from textflow.distill.targets import Consistency, Progressive, SalimansHo
from textflow.objectives.row_indices import row_indices
from textflow.schedules import Uniform
from textflow.types import Conditioning, Posterior


def test_two_steps_of_the_teacher_halve_the_time_and_weigh_by_snr() -> None:
    z, s, u = start()
    target = SalimansHo()
    times = target.times(s, u, Uniform())
    torch.testing.assert_close(times[:, 1], (s + u) / 2)
    lesson = target(exact, exact, FREE, z, times, Conditioning(), row_indices(some()))
    torch.testing.assert_close(
        lesson.x0_target,
        Progressive(2)(exact, exact, FREE, z, times, Conditioning(), row_indices(some())).x0_target,
        rtol=0,
        atol=0,
    )
    snr = (s / (2 * (1 - s))) ** 2
    for weight, expected in (("truncated", snr.clamp_min(1)), ("snr+1", snr + 1), ("one", torch.ones_like(s))):
        found = replace(target, weight=weight)(exact, exact, FREE, z, times, Conditioning(), row_indices(some())).weight
        torch.testing.assert_close(found, expected)


def constant(x: float) -> Callable[..., Posterior]:
    return lambda z, t, given=Conditioning(): Posterior(torch.full_like(z, x))


def test_consistency_asks_the_student_one_step_of_the_teacher_further() -> None:
    z, s, u = start()
    student = Counting(exact)
    times = Consistency().times(s, u, Uniform())
    lesson = Consistency()(constant(0.5), student, FREE, z, times, Conditioning(), row_indices(some()))
    ahead = FREE.step(z, torch.full_like(z, 0.5), s, u)
    seen = torch.where(some()[:, None, None], torch.full_like(z, 0.5), 0.0)
    torch.testing.assert_close(lesson.x0_target, exact(ahead, u, Conditioning(self_cond=seen)).mean)
    torch.testing.assert_close(lesson.self_cond, seen)
    assert student.rows == ROWS


def test_consistency_at_the_text_is_where_the_teacher_ends() -> None:
    z, s, u = start(1.0)
    lesson = Consistency()(
        constant(0.5), constant(9.0), FREE, z, torch.stack([s, u], 1), Conditioning(), row_indices(some())
    )
    torch.testing.assert_close(lesson.x0_target, torch.full_like(z, 0.5))
