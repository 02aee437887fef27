"""Flow-map targets of x ~ N(mu, tau^2), whose map is known: z_u = alpha_u mu + a (z_s - alpha_s mu)."""

import pytest
import torch
from torch import Tensor

from tests.helpers.sampling import GivenLatents
from textflow.distill import FlowMap
from textflow.distill.targets import Eulerian, Lagrangian, MeanFlow, PredictFn, SemiGroup, Target, TargetOutput
from textflow.distill.targets.base import TargetInput, step_coefficients
from textflow.distill.targets.flow_map import simplex_projection
from textflow.nets import Denoiser
from textflow.nets.dit import schedule_cdf
from textflow.objectives.row_indices import no_rows
from textflow.paths import LinearPath, ProbPath, VariancePreserving
from textflow.schedules import Gumbel, LogitNormal, Uniform
from textflow.types import Batch, Conditioning, Latents, Posterior, Times

STRAIGHT, CURVED, MU, TAU, ROWS = LinearPath(2.0, 1e-9), VariancePreserving(), 0.7, 0.4, 6
TARGETS = [SemiGroup(), Eulerian(), Lagrangian(project_to_simplex=False), MeanFlow()]
ON_PATHS = pytest.mark.parametrize("path", [STRAIGHT, CURVED], ids=lambda path: type(path).__name__)


class Exact(Denoiser):
    """The denoiser of x ~ N(MU, TAU^2), or with an end the prediction whose step is the map.

    Args:
        path: path from noise to x.
        error: what is added to the map's prediction, times sin of z and of the step's length.
    """

    def __init__(self, path: ProbPath = STRAIGHT, error: float = 0.0) -> None:
        super().__init__()
        self.path, self.error, self.dim = path, error, 2

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        alpha, variance = self.moments(t)
        if cond.end_time is None:
            return Posterior(MU + alpha * TAU**2 / variance * (z - alpha * MU))
        alpha_end, variance_end = self.moments(cond.end_time)
        end = alpha_end * MU + (variance_end / variance).sqrt() * (z - alpha * MU)
        a, b = step_coefficients(self.path, t, cond.end_time)
        return Posterior((end - a * z) / b + self.error * torch.sin(3 * (cond.end_time - t)[:, None, None] * z))

    def moments(self, t: Times) -> tuple[Tensor, Tensor]:
        """alpha, and the variance of z_t."""
        t = t.double()[:, None, None]
        return self.path.alpha(t), (self.path.alpha(t) * TAU) ** 2 + self.path.sigma(t) ** 2


def start(path: ProbPath = STRAIGHT) -> tuple[Latents, Times, Times]:
    torch.manual_seed(0)
    s = 0.05 + 0.4 * torch.rand(ROWS, dtype=torch.float64)
    u = s + 0.1 + 0.3 * torch.rand(ROWS, dtype=torch.float64)
    z = torch.randn(ROWS, 3, 2, dtype=torch.float64)
    return (z, torch.logit(s) * 2, torch.logit(u) * 2) if path.log_snr else (z, s, u)


def output_of(target: Target, student: PredictFn, path: ProbPath = STRAIGHT) -> TargetOutput:
    z, s, u = start(path)
    times = target.times(s, u, Uniform(-8.0, 8.0) if path.log_snr else Uniform())
    return target(TargetInput(Exact(path), student, path, z, times, Conditioning(), no_rows(z)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
@ON_PATHS
def test_the_exact_map_is_its_own_target_and_another_map_is_not(target: Target, path: ProbPath) -> None:
    z, s, u = start(path)
    exact, wrong = Exact(path), Exact(path, 1.0)
    own, other = (student(z, s, Conditioning(end_time=u)).mean for student in (exact, wrong))
    torch.testing.assert_close(output_of(target, exact, path).x0_target, own, rtol=1e-8, atol=1e-8)
    assert float((output_of(target, wrong, path).x0_target - other).abs().max()) > 0.02


def test_a_flow_map_of_another_path_has_no_loss_off_the_diagonal_only_if_it_is_exact() -> None:
    x, _, _ = start(CURVED)
    batch = Batch(torch.zeros(ROWS, 3, dtype=torch.long), torch.ones(ROWS, 3, dtype=torch.bool))
    law = Gumbel(1.0, 0.6).double()
    objective = FlowMap(SemiGroup(), law, 0.0, 0.0, offdiagonal_loss="square")
    losses = []
    for error in (0.0, 1.0):
        torch.manual_seed(0)
        losses.append(float(objective(Exact(CURVED, error), GivenLatents(x), CURVED, batch, 0)["loss"]))
    assert losses[0] < 1e-8 and losses[1] > 0.02


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_a_step_whose_ends_are_one_time_has_the_target_of_the_teacher(target: Target) -> None:
    z, s, _ = start(CURVED)
    times = s[:, None].repeat(1, 3 if isinstance(target, SemiGroup) else 2)

    def flat(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(torch.full_like(z, 0.3))

    output = target(TargetInput(flat, flat, CURVED, z, times, Conditioning(), no_rows(z)))
    torch.testing.assert_close(output.x0_target, torch.full_like(z, 0.3))


@pytest.mark.parametrize("target", [Eulerian(), Lagrangian(), MeanFlow()], ids=lambda target: type(target).__name__)
def test_the_prediction_of_a_target_carries_the_gradient(target: Target) -> None:
    (z, s, u), exact = start(), Exact()
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
    (a, b), (first, _), (second, _) = (step_coefficients(STRAIGHT, *ends) for ends in ((s, u), (s, m), (m, u)))
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
