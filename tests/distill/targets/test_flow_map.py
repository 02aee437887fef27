"""Flow maps on a law whose map is known: x ~ N(mu, tau^2), so z_u = u mu + sqrt(var_u / var_s) (z_s - s mu)."""

import pytest
import torch
from torch import Tensor

from textflow.distill.targets import Eulerian, Lagrangian, MeanFlow, SemiGroup, Target
from textflow.distill.targets.base import step_coefficients
from textflow.distill.targets.flow_map import simplex_projection
from textflow.nets.dit import schedule_cdf
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal, Uniform
from textflow.types import Conditioning, Latents, Posterior, Times

PATH, MU, TAU, ROWS = LinearPath(2.0, 1e-9), 0.7, 0.4, 6
ALL = [SemiGroup(), Eulerian(), Lagrangian(project_to_simplex=False), MeanFlow()]


def spread(t: Tensor) -> Tensor:
    return (t * TAU) ** 2 + (2 * (1 - t)) ** 2


def exact(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """The denoiser, or with an end the guess whose step is the map."""
    s = t[:, None, None]
    if cond.end_time is None:
        return Posterior(MU + s * TAU**2 / spread(s) * (z - s * MU))
    u = cond.end_time[:, None, None]
    end = u * MU + (spread(u) / spread(s)).sqrt() * (z - s * MU)
    return Posterior((end - (1 - u) / (1 - s) * z) * (1 - s) / (u - s))


def start() -> tuple[Latents, Tensor]:
    torch.manual_seed(0)
    s = 0.05 + 0.4 * torch.rand(ROWS, dtype=torch.float64)
    u = s + 0.1 + 0.3 * torch.rand(ROWS, dtype=torch.float64)
    return torch.randn(ROWS, 3, 2, dtype=torch.float64), torch.stack([s, u], 1)


def learn(target: Target, student: object, z: Latents, times: Tensor) -> Latents:
    never = torch.zeros(len(z), dtype=torch.bool)
    return target(exact, student, PATH, z, times, Conditioning(), row_indices(never)).x0_target  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ALL, ids=lambda target: type(target).__name__)
def test_the_exact_map_is_its_own_target(target: Target) -> None:
    z, ends = start()
    times = target.times(ends[:, 0], ends[:, 1], Uniform())
    goal = exact(z, ends[:, 0], Conditioning(end_time=ends[:, 1])).mean
    torch.testing.assert_close(learn(target, exact, z, times), goal, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("target", ALL, ids=lambda target: type(target).__name__)
def test_another_map_is_not(target: Target) -> None:
    def other(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        mean = exact(z, t, cond).mean
        return Posterior(
            mean if cond.end_time is None else mean + torch.sin(3 * (cond.end_time - t)[:, None, None] * z)
        )

    z, ends = start()
    times = target.times(ends[:, 0], ends[:, 1], Uniform())
    goal = other(z, ends[:, 0], Conditioning(end_time=ends[:, 1])).mean
    assert float((learn(target, other, z, times) - goal).abs().max()) > 0.02


def test_the_guess_that_comes_with_a_target_carries_the_gradient() -> None:
    z, ends = start()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def student(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(scale * exact(z, t, cond).mean)

    for target in (Eulerian(), Lagrangian(), MeanFlow()):
        lesson = target(exact, student, PATH, z, ends, Conditioning(), row_indices(torch.zeros(ROWS, dtype=torch.bool)))
        assert lesson.prediction is not None and not lesson.x0_target.requires_grad
        (grad,) = torch.autograd.grad(lesson.prediction.mean.sum(), scale)
        own = exact(z, ends[:, 0], Conditioning(end_time=ends[:, 1])).mean.sum()
        torch.testing.assert_close(grad, own, rtol=1e-10, atol=1e-10)


def test_the_middle_of_a_step_is_the_clocks() -> None:
    clock, q = LogitNormal(), torch.tensor([0.1, 0.4], dtype=torch.float64)
    times = SemiGroup().times(clock.icdf(q), clock.icdf(q + 0.5), clock)
    torch.testing.assert_close(times[:, 1], clock.icdf(q + 0.25), rtol=1e-9, atol=1e-9)


def test_shares_of_a_law_are_found_from_its_times_with_their_slope() -> None:
    clock, q = LogitNormal(), torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
    t = clock.icdf(q)
    torch.testing.assert_close(schedule_cdf(clock, t), q, rtol=0, atol=1e-9)
    logit = (torch.logit(t) + 1.5) / 0.8
    slope = torch.exp(-(logit**2) / 2) / (2 * torch.pi) ** 0.5 / 0.8 / (t * (1 - t))
    _, found = torch.func.jvp(lambda t: schedule_cdf(clock, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-6)


def test_shares_of_a_step_add_up_and_compose() -> None:
    _, ends = start()
    s, u = ends.unbind(1)
    a, b = step_coefficients(PATH, s, u)
    torch.testing.assert_close(a + b, torch.ones_like(a))
    m = (s + u) / 2
    torch.testing.assert_close(step_coefficients(PATH, s, m)[0] * step_coefficients(PATH, m, u)[0], a)


def test_the_nearest_point_of_the_simplex_is_one_and_is_nearest() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 40, 5, dtype=torch.float64)
    p = simplex_projection(x)
    torch.testing.assert_close(p.sum(-1), torch.ones(1, 40, dtype=torch.float64))
    assert float(p.min()) >= 0 and bool((p == 0).any())
    others = torch.rand(200, 1, 5, dtype=torch.float64).log().neg()
    others = others / others.sum(-1, keepdim=True)
    assert bool(((x - p).square().sum(-1) <= (x - others).square().sum(-1) + 1e-12).all())
    torch.testing.assert_close(simplex_projection(p), p)
