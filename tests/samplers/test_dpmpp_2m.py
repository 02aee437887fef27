"""The multistep sampler where all is known: latents are standard normal, so E[x | z_t] = a z / (a^2 + s^2)."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import one_step
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import DPMSolverPP2M, Euler, Sampler, sample
from textflow.types import Ids, Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)


def std(t: float) -> float:
    """Standard deviation of z_t."""
    return math.hypot(t, PATH.noise_scale * (1 - t))


def gaussian(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    return Posterior(t * z / std(t) ** 2)


def start() -> Latents:
    return Noise([0, 1]).normal(3, 2).double() * PATH.noise_scale


def run(sampler: Sampler, first: float, last: float, steps: int) -> Latents:
    times = [first + (last - first) * i / steps for i in range(steps + 1)]
    return sample(gaussian, sampler, PATH, times, start(), Noise([5, 6])).z


@pytest.mark.integration
@pytest.mark.parametrize("first", [0.1, 0.0])
@pytest.mark.parametrize(("sampler", "order", "tolerance"), [(Euler(), 1, 0.1), (DPMSolverPP2M(), 2, 0.15)])
def test_it_converges_in_second_order_and_euler_in_first(
    sampler: Sampler, order: int, tolerance: float, first: float
) -> None:
    """The flow keeps z_t / std(t)."""
    truth = start() * std(0.5) / std(first)
    errors = [float((run(sampler, first, 0.5, steps) - truth).abs().max()) for steps in (80, 160)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=tolerance)


def test_the_error_of_one_step_is_of_third_order() -> None:
    """For E[x] = lambda, whose flow is known in closed form."""

    def log_snr(t: float) -> float:
        return math.log(t / (PATH.noise_scale * (1 - t)))

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return Posterior(torch.full_like(z, log_snr(t)))

    errors = []
    for h in (0.1, 0.05):
        prev_t, t, t_next, z = 0.5 - h, 0.5, 0.5 + h, start()
        self_cond = torch.full_like(z, log_snr(prev_t))
        end = one_step(DPMSolverPP2M(), denoise, PATH, z, t, t_next, self_cond, Noise([5, 6]), prev_t)[0]
        # d(z / s) = x d(a / s), a / s = exp(lambda): the integral of lambda exp(lambda) is (lambda - 1) exp(lambda)
        a, b = log_snr(t), log_snr(t_next)
        s, s_next = PATH.noise_scale * (1 - t), PATH.noise_scale * (1 - t_next)
        truth = s_next * (z / s + (b - 1) * math.exp(b) - (a - 1) * math.exp(a))
        errors.append(float((end - truth).abs().max()))
    assert math.log2(errors[0] / errors[1]) > 2.6 and errors[1] > 1e-9


def test_up_to_three_steps_it_is_euler_to_the_bit() -> None:
    """The first step, the one after t = 0 and the last are of first order."""
    for steps in (1, 2, 3, 4):
        equal = torch.equal(run(DPMSolverPP2M(), 0.0, 1.0, steps), run(Euler(), 0.0, 1.0, steps))
        assert equal == (steps < 4), steps


def test_committed_positions_take_a_first_order_step() -> None:
    z, committed = start(), torch.tensor([[-1, 4, -1]] * 2)

    def step(sampler: Sampler, committed: Ids | None) -> Latents:
        def denoise(z: Latents, t: float, *_: object) -> Posterior:
            return gaussian(z, t)._replace(committed=committed)

        return one_step(sampler, denoise, PATH, z, 0.4, 0.6, torch.zeros_like(z), Noise([5, 6]), 0.2)[0]

    first, second, mixed = step(Euler(), None), step(DPMSolverPP2M(), None), step(DPMSolverPP2M(), committed)
    assert not torch.isclose(first, second).any()
    assert_close(mixed, torch.where(committed[..., None] >= 0, first, second), rtol=0, atol=0)
