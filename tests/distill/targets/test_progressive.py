"""Targets of walks on a law whose teacher is exact: tokens are Gaussian clouds, their posterior is Bayes' rule."""

import pytest
import torch
from torch import Tensor

from tests.helpers.gaussian_clouds import CLAMPED, FREE, LENGTH, ROWS, Counting, codes, exact, some, start
from textflow.distill.targets import DenoiserFn, Progressive, Target
from textflow.distill.targets.base import first_prediction
from textflow.distill.targets.progressive import interior_times, invert_step, teacher_rollout
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal, Uniform
from textflow.types import Conditioning, Latents, Posterior, Times


def learn(
    target: Target,
    teacher: DenoiserFn,
    path: LinearPath,
    z: Latents,
    times: Tensor,
    cond: Conditioning = Conditioning(),
) -> Latents:
    return target(teacher, teacher, path, z, times, cond, row_indices(some())).x0_target


@pytest.mark.parametrize("path", [FREE, CLAMPED])
@pytest.mark.parametrize("end", [None, 0.95, 1.0])
@pytest.mark.parametrize("substeps", [1, 2, 16])
def test_the_folded_form_is_the_inversion(path: LinearPath, end: float | None, substeps: int) -> None:
    """Also where a floor under 1 - t acts."""
    z, s, u = start(end, path)
    times = Progressive(substeps).times(s, u, LogitNormal())
    guess, prev = first_prediction(exact, z, s, Conditioning(), row_indices(some()))
    there = path.step(z, guess, s, times[:, 1])
    for i in range(1, substeps):
        guess = exact(there, times[:, i], Conditioning(self_cond=guess)).mean
        there = path.step(there, guess, times[:, i], times[:, i + 1])
    lesson = Progressive(substeps)(exact, exact, path, z, times, Conditioning(), row_indices(some()))
    torch.testing.assert_close(lesson.x0_target, invert_step(path, z, there, s, u), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(path.step(z, lesson.x0_target, s, u), there, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(lesson.self_cond, prev, rtol=0, atol=0)


@pytest.mark.parametrize("end", [0.8, 1.0])
def test_the_weights_of_the_guesses_are_convex_and_at_the_text_the_last_has_all(end: float) -> None:
    z, s, u = start(end)
    weights = []
    for i in range(4):
        left = iter([0.0] * i + [1.0] + [0.0] * (3 - i))

        def one(z: Latents, t: Times, cond: Conditioning = Conditioning(), left: object = left) -> Posterior:
            return Posterior(torch.full_like(z, next(left)) if len(z) == ROWS else z)  # type: ignore[call-overload]

        never = torch.zeros(ROWS, dtype=torch.bool)
        times = interior_times(s, u, torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64).expand(ROWS, -1))
        weights.append(teacher_rollout(one, FREE, 0 * z, times, Conditioning(), row_indices(never)).x0_target[:, 0, 0])
    found = torch.stack(weights)
    torch.testing.assert_close(found.sum(0), torch.ones(ROWS, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(found.min()) >= 0
    if end == 1.0:
        torch.testing.assert_close(found[-1], torch.ones(ROWS, dtype=torch.float64), rtol=0, atol=1e-9)
    else:
        assert float(found.min()) > 0.01


def test_a_single_substep_gives_the_first_guess() -> None:
    z, s, u = start()
    guess, _ = first_prediction(exact, z, s, Conditioning(), row_indices(some()))
    found = learn(Progressive(1), exact, FREE, z, torch.stack([s, u], 1))
    torch.testing.assert_close(found, guess, rtol=1e-12, atol=1e-12)


def test_the_blind_guess_is_the_first_of_rows_that_do_not_see_it() -> None:
    """n passes a row and one more a self-conditioned row, where the published code makes n + 1 everywhere."""
    z, s, u = start()
    teacher = Counting(exact)
    learn(Progressive(4), teacher, FREE, z, Progressive(4).times(s, u, Uniform()))
    assert teacher.rows == 4 * ROWS + 2


def test_a_row_does_not_depend_on_its_batch() -> None:
    z, s, u = start()
    times = Progressive(4).times(s, u, Uniform())
    every = Progressive(4, order=2)(exact, exact, FREE, z, times, Conditioning(), row_indices(some())).x0_target
    for i in range(ROWS):
        alone = Progressive(4, order=2)(
            exact, exact, FREE, z[i : i + 1], times[i : i + 1], Conditioning(), row_indices(some()[i : i + 1])
        ).x0_target
        torch.testing.assert_close(alone[0], every[i], rtol=1e-12, atol=1e-12)


def test_a_prompt_is_never_moved_and_is_seen_in_the_self_condition() -> None:
    z, s, u = start()
    fixed = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    fixed[:, :2] = True
    clean = codes()[torch.randint(16, (ROWS, LENGTH))]
    shown: list[tuple[Latents, Latents]] = []

    def teacher(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        assert cond.self_cond is not None and cond.prompt is not None
        shown.append(((z - cond.prompt)[:, :2], (cond.self_cond - cond.prompt)[:, :2]))
        return exact(z, t, cond)

    z = torch.where(fixed[..., None], clean, z)
    given = Conditioning(prompt=clean, prompt_mask=fixed)
    lesson = Progressive(3)(
        teacher, teacher, FREE, z, Progressive(3).times(s, u, Uniform()), given, row_indices(some())
    )
    assert len(shown) == 4
    assert max(float(part.abs().max()) for pair in shown for part in pair) < 1e-12
    assert lesson.self_cond is not None
    torch.testing.assert_close(lesson.self_cond[:, :2], clean[:, :2], rtol=0, atol=0)
    torch.testing.assert_close(given.rows(some()).prompt, clean[some()], rtol=0, atol=0)


@pytest.mark.parametrize("spread", ["random", "quantile"])
def test_times_increase_from_s_to_u(spread: str) -> None:
    _, s, u = start()
    times = Progressive(8, spread).times(s, u, LogitNormal())  # type: ignore[arg-type]
    assert times.shape == (ROWS, 9)
    assert bool((times.diff(dim=1) > 0).all())
    assert torch.equal(times[:, 0], s) and torch.equal(times[:, -1], u)
    assert bool(times[0].sub(s[0]).div(0.25).allclose(times[1].sub(s[1]).div(0.25))) == (spread == "quantile")


def test_at_second_order_a_quarter_of_the_steps_is_nearer_than_euler() -> None:
    """To the walk of all steps, and (with small steps) at order 2 to the exact one."""
    z, s, u = start()
    never = torch.zeros(ROWS, dtype=torch.bool)

    def blind(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return exact(z, t)

    def goal(substeps: int, order: int) -> Latents:
        steps = torch.arange(1, substeps, dtype=torch.float64) / substeps
        return teacher_rollout(
            blind, FREE, z, interior_times(s, u, steps.expand(ROWS, -1)), Conditioning(), row_indices(never), order
        ).x0_target

    def off(x: Latents, y: Latents) -> float:
        return float((x - y).square().mean().sqrt())

    full, truth = goal(16, 1), goal(512, 2)
    assert off(goal(4, 2), full) < 0.5 * off(goal(4, 1), full)
    for order, low, high in ((1, 1.8, 2.2), (2, 3.4, 4.6)):
        errors = [off(goal(n, order), truth) for n in (16, 32, 64)]
        assert all(low < a / b < high for a, b in zip(errors, errors[1:], strict=False)), errors
