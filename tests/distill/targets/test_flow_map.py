"""Flow-map targets of x ~ N(mu, tau^2), whose map is known: z_u = u mu + sqrt(var_u / var_s) (z_s - s mu)."""

import pytest
import torch
from torch import Tensor

from textflow.distill.targets import DenoiserFn, Eulerian, Lagrangian, MeanFlow, SemiGroup, Target, TargetOutput
from textflow.distill.targets.base import TargetInput, step_coefficients
from textflow.distill.targets.flow_map import simplex_projection
from textflow.nets.dit import schedule_cdf
from textflow.objectives.row_indices import no_rows
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal, Uniform
from textflow.types import Conditioning, Latents, Posterior, Times

PATH, MU, TAU, ROWS = LinearPath(2.0, 1e-9), 0.7, 0.4, 6
TARGETS = [SemiGroup(), Eulerian(), Lagrangian(project_to_simplex=False), MeanFlow()]


def variance(t: Tensor) -> Tensor:
    return (t * TAU) ** 2 + (2 * (1 - t)) ** 2


def exact(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """The denoiser, or with an end the prediction whose step is the map."""
    s = t[:, None, None]
    if cond.end_time is None:
        return Posterior(MU + s * TAU**2 / variance(s) * (z - s * MU))
    u = cond.end_time[:, None, None]
    end = u * MU + (variance(u) / variance(s)).sqrt() * (z - s * MU)
    return Posterior((end - (1 - u) / (1 - s) * z) * (1 - s) / (u - s))


def wrong(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """The exact denoiser with another map."""
    mean = exact(z, t, cond).mean
    return Posterior(mean if cond.end_time is None else mean + torch.sin(3 * (cond.end_time - t)[:, None, None] * z))


def start() -> tuple[Latents, Times, Times]:
    torch.manual_seed(0)
    s = 0.05 + 0.4 * torch.rand(ROWS, dtype=torch.float64)
    u = s + 0.1 + 0.3 * torch.rand(ROWS, dtype=torch.float64)
    return torch.randn(ROWS, 3, 2, dtype=torch.float64), s, u


def output_of(target: Target, student: DenoiserFn) -> TargetOutput:
    z, s, u = start()
    times = target.times(s, u, Uniform())
    return target(TargetInput(exact, student, PATH, z, times, Conditioning(), no_rows(z)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_the_exact_map_is_its_own_target_and_another_map_is_not(target: Target) -> None:
    z, s, u = start()
    own, other = (student(z, s, Conditioning(end_time=u)).mean for student in (exact, wrong))
    torch.testing.assert_close(output_of(target, exact).x0_target, own, rtol=1e-8, atol=1e-8)
    assert float((output_of(target, wrong).x0_target - other).abs().max()) > 0.02


@pytest.mark.parametrize("target", [Eulerian(), Lagrangian(), MeanFlow()], ids=lambda target: type(target).__name__)
def test_the_prediction_of_a_target_carries_the_gradient(target: Target) -> None:
    z, s, u = start()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def student(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(scale * exact(z, t, cond).mean)

    output = output_of(target, student)
    assert output.prediction is not None and not output.x0_target.requires_grad
    (grad,) = torch.autograd.grad(output.prediction.mean.sum(), scale)
    torch.testing.assert_close(grad, exact(z, s, Conditioning(end_time=u)).mean.sum(), rtol=1e-10, atol=1e-10)


def test_the_middle_of_a_step_is_halfway_in_the_schedules_cdf() -> None:
    schedule, q = LogitNormal(), torch.tensor([0.1, 0.4], dtype=torch.float64)
    times = SemiGroup().times(schedule.icdf(q), schedule.icdf(q + 0.5), schedule)
    torch.testing.assert_close(times[:, 1], schedule.icdf(q + 0.25), rtol=1e-9, atol=1e-9)


def test_the_cdf_of_a_schedule_inverts_its_quantiles_and_has_their_density_as_slope() -> None:
    schedule, q = LogitNormal(), torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
    t = schedule.icdf(q)
    cdf, slope = torch.func.jvp(lambda t: schedule_cdf(schedule, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(cdf, q, rtol=0, atol=1e-9)
    density = torch.exp(-(((torch.logit(t) + 1.5) / 0.8) ** 2) / 2) / (2 * torch.pi) ** 0.5 / 0.8 / (t * (1 - t))
    torch.testing.assert_close(slope, density, rtol=1e-4, atol=1e-6)


def test_coefficients_of_a_step_sum_to_one_and_compose() -> None:
    _, s, u = start()
    m = (s + u) / 2
    (a, b), (first, _), (second, _) = (step_coefficients(PATH, *ends) for ends in ((s, u), (s, m), (m, u)))
    torch.testing.assert_close(a + b, torch.ones_like(a))
    torch.testing.assert_close(first * second, a)


def test_the_simplex_projection_is_the_nearest_point_of_the_simplex() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 40, 5, dtype=torch.float64)
    p = simplex_projection(x)
    torch.testing.assert_close(p.sum(-1), torch.ones(1, 40, dtype=torch.float64))
    assert float(p.min()) >= 0 and bool((p == 0).any())
    others = torch.distributions.Dirichlet(torch.ones(5, dtype=torch.float64)).sample((200, 1))
    assert bool(((x - p).square().sum(-1) <= (x - others).square().sum(-1) + 1e-12).all())
    torch.testing.assert_close(simplex_projection(p), p)
