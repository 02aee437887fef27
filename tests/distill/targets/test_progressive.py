"""Targets of rollouts and of single steps of an exact teacher."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.helpers.gaussian_clouds import (
    CLAMPED,
    FREE,
    LENGTH,
    ROWS,
    SELF_COND,
    RowCounter,
    codes,
    exact,
    exact_blind,
    output_of,
    start,
)
from textflow.distill.targets import Consistency, Progressive, SalimansHo
from textflow.distill.targets.base import TargetInput, first_prediction
from textflow.distill.targets.progressive import interior_times, invert_step, teacher_rollout
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal, Uniform
from textflow.types import Conditioning, Latents, Posterior, Times

BLIND = torch.zeros(ROWS, dtype=torch.bool)


CASES = [(FREE, None, 1), (CLAMPED, None, 16), (FREE, 0.95, 2), (CLAMPED, 0.95, 1), (FREE, 1.0, 16), (CLAMPED, 1.0, 2)]


@pytest.mark.parametrize(("path", "end", "substeps"), CASES)
def test_the_folded_form_is_the_inversion(path: LinearPath, end: float | None, substeps: int) -> None:
    """Also where the lower bound of 1 - t is active; a single substep gives the first prediction."""
    z, s, u = start(end, path)
    times = Progressive(substeps).times(s, u, LogitNormal())
    inputs = TargetInput(exact, exact, path, z, times, Conditioning(), row_indices(SELF_COND))
    first, self_cond = first_prediction(inputs)
    x0, z_t = first, path.step(z, first, s, times[:, 1])
    for i in range(1, substeps):
        x0 = exact(z_t, times[:, i], Conditioning(self_cond=x0)).mean
        z_t = path.step(z_t, x0, times[:, i], times[:, i + 1])
    output = Progressive(substeps)(inputs)
    torch.testing.assert_close(output.x0_target, invert_step(path, z, z_t, s, u), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(path.step(z, output.x0_target, s, u), z_t, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.self_cond, self_cond, rtol=0, atol=0)
    if substeps == 1:
        torch.testing.assert_close(output.x0_target, first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("end", [0.8, 1.0])
def test_weights_of_predictions_are_convex_and_at_the_text_the_last_is_one(end: float) -> None:
    z, s, u = start(end)
    times = interior_times(s, u, torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64).expand(ROWS, -1))
    weights = torch.empty(4, ROWS, dtype=torch.float64)
    for i in range(4):
        predictions = iter(torch.eye(4)[i].tolist())

        def one_hot(z: Latents, t: Times, cond: Conditioning = Conditioning(), predictions=predictions) -> Posterior:
            return Posterior(torch.full_like(z, next(predictions)) if len(z) == ROWS else z)

        weights[i] = output_of(Progressive(4), 0 * z, times, one_hot, self_cond=BLIND).x0_target[:, 0, 0]
    ones = torch.ones(ROWS, dtype=torch.float64)
    torch.testing.assert_close(weights.sum(0), ones, rtol=0, atol=1e-12)
    assert float(weights.min()) >= (0 if end == 1.0 else 0.01)
    if end == 1.0:
        torch.testing.assert_close(weights[-1], ones, rtol=0, atol=1e-9)


def test_the_blind_prediction_is_the_first_one_of_rows_without_self_conditioning() -> None:
    """n passes per row and one more a self-conditioned row; the published code makes n + 1 everywhere."""
    z, s, u = start()
    teacher = RowCounter(exact)
    output_of(Progressive(4), z, Progressive(4).times(s, u, Uniform()), teacher)
    assert teacher.rows == 4 * ROWS + 2


def test_a_row_does_not_depend_on_its_batch() -> None:
    z, s, u = start()
    target = Progressive(4, order=2)
    times = target.times(s, u, Uniform())
    together = output_of(target, z, times).x0_target
    for i in range(ROWS):
        row = slice(i, i + 1)
        alone = output_of(target, z[row], times[row], self_cond=SELF_COND[row]).x0_target
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)


def test_a_prompt_never_moves_and_is_in_the_self_condition() -> None:
    z, s, u = start()
    prompt_mask = (torch.arange(LENGTH) < 2).expand(ROWS, -1)
    prompt = codes()[torch.randint(16, (ROWS, LENGTH))]
    errors: list[float] = []

    def teacher(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        assert cond.self_cond is not None and cond.prompt is not None
        errors.extend(float((part - cond.prompt)[:, :2].abs().max()) for part in (z, cond.self_cond))
        return exact(z, t, cond)

    cond = Conditioning(prompt=prompt, prompt_mask=prompt_mask)
    times = Progressive(3).times(s, u, Uniform())
    output = output_of(Progressive(3), torch.where(prompt_mask[..., None], prompt, z), times, teacher, cond=cond)
    assert len(errors) == 2 * 4 and max(errors) < 1e-12
    assert output.self_cond is not None and torch.equal(output.self_cond[:, :2], prompt[:, :2])
    assert torch.equal(cond.rows(SELF_COND).prompt, prompt[SELF_COND])


@pytest.mark.parametrize("substep_times", ["random", "quantile"])
def test_times_increase_from_s_to_u(substep_times: str) -> None:
    _, s, u = start()
    times = Progressive(8, substep_times).times(s, u, LogitNormal())  # type: ignore[arg-type]
    assert times.shape == (ROWS, 9) and bool((times.diff(dim=1) > 0).all())
    assert torch.equal(times[:, 0], s) and torch.equal(times[:, -1], u)
    fractions = (times - s[:, None]) / 0.25
    assert fractions[0].allclose(fractions[1]) == (substep_times == "quantile")


@pytest.mark.integration
def test_at_second_order_a_quarter_of_the_steps_is_nearer_than_euler() -> None:
    """To the rollout of all steps, and (with small steps) at order 2 to the exact one."""
    z, s, u = start()

    def x0_target(substeps: int, order: int) -> Latents:
        steps = torch.arange(1, substeps, dtype=torch.float64) / substeps
        times = interior_times(s, u, steps.expand(ROWS, -1))
        inputs = TargetInput(exact_blind, exact, FREE, z, times, Conditioning(), row_indices(BLIND))
        return teacher_rollout(inputs, order).x0_target

    def distance(x: Latents, y: Latents) -> float:
        return float((x - y).square().mean().sqrt())

    full, limit = x0_target(16, 1), x0_target(256, 2)
    assert distance(x0_target(4, 2), full) < 0.5 * distance(x0_target(4, 1), full)
    for order, low, high in ((1, 1.8, 2.2), (2, 3.4, 4.6)):
        errors = [distance(x0_target(n, order), limit) for n in (8, 16, 32)]
        assert all(low < a / b < high for a, b in zip(errors, errors[1:], strict=False)), errors


def test_salimans_ho_takes_two_equal_teacher_steps_and_weights_rows_by_snr() -> None:
    z, s, u = start()
    target = SalimansHo()
    times = target.times(s, u, Uniform())
    torch.testing.assert_close(times[:, 1], (s + u) / 2)
    assert torch.equal(output_of(target, z, times).x0_target, output_of(Progressive(2), z, times).x0_target)
    snr = (s / (2 * (1 - s))) ** 2
    for weight, expected in (("truncated", snr.clamp_min(1)), ("snr+1", snr + 1), ("one", torch.ones_like(s))):
        torch.testing.assert_close(output_of(replace(target, weight=weight), z, times).weight, expected)


def constant(x: float) -> Callable[..., Posterior]:
    return lambda z, t, cond=Conditioning(): Posterior(torch.full_like(z, x))


def test_consistency_evaluates_the_student_after_one_step_of_the_teacher() -> None:
    z, s, u = start()
    student = RowCounter(exact)
    output = output_of(Consistency(), z, Consistency().times(s, u, Uniform()), constant(0.5), student)
    z_u = FREE.step(z, torch.full_like(z, 0.5), s, u)
    self_cond = torch.where(SELF_COND[:, None, None], torch.full_like(z, 0.5), 0.0)
    torch.testing.assert_close(output.x0_target, exact(z_u, u, Conditioning(self_cond=self_cond)).mean)
    torch.testing.assert_close(output.self_cond, self_cond)
    assert student.rows == ROWS


def test_consistency_at_the_text_is_the_teachers_end() -> None:
    z, s, u = start(1.0)
    output = output_of(Consistency(), z, torch.stack([s, u], 1), constant(0.5), constant(9.0))
    torch.testing.assert_close(output.x0_target, torch.full_like(z, 0.5))
