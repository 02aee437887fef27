"""The multistep sampler in a world where all is known: latents standard normal, so E[x | z_t] = a z / (a^2 + s^2)."""

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


def spread(t: float) -> float:
    """Standard deviation of z_t."""
    return math.hypot(t, PATH.noise_scale * (1 - t))


def gaussian(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    return Posterior(t * z / spread(t) ** 2)


def start() -> Latents:
    return Noise([0, 1]).normal(3, 2).double() * PATH.noise_scale


def walk(sampler: Sampler, times: list[float]) -> Latents:
    return sample(gaussian, sampler, PATH, times, start(), Noise([5, 6])).z


def even(first: float, last: float, steps: int) -> list[float]:
    return [first + (last - first) * i / steps for i in range(steps + 1)]


def slope(sampler: Sampler, first: float, last: float = 0.5) -> float:
    """By how many powers of the step's length the error falls; the flow keeps z_t / spread(t)."""
    truth = start() * spread(last) / spread(first)
    errors = [float((walk(sampler, even(first, last, n)) - truth).abs().max()) for n in (80, 160)]
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("first", [0.1, 0.0])
def test_it_converges_in_second_order_and_euler_in_first(first: float) -> None:
    assert slope(Euler(), first) == pytest.approx(1, abs=0.1)
    assert slope(DPMSolverPP2M(), first) == pytest.approx(2, abs=0.15)


def test_one_step_after_another_errs_in_the_third_power_of_its_length() -> None:
    """For E[x] = lambda, whose flow is known in closed form."""

    def lam(t: float) -> float:
        return math.log(t / (PATH.noise_scale * (1 - t)))

    def line(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return Posterior(torch.full_like(z, lam(t)))

    errors = []
    for h in (0.1, 0.05):
        since, t = 0.5 - h, 0.5
        u = t + h
        z, prev = start(), torch.full_like(start(), lam(since))
        found = one_step(DPMSolverPP2M(), line, PATH, z, t, u, prev, Noise([5, 6]), since)[0]
        # d(z / s) = x d(a / s), a / s = exp(lambda): the integral of lambda exp(lambda) is (lambda - 1) exp(lambda)
        a, b = lam(t), lam(u)
        s, s_u = PATH.noise_scale * (1 - t), PATH.noise_scale * (1 - u)
        truth = s_u * (z / s + (b - 1) * math.exp(b) - (a - 1) * math.exp(a))
        errors.append(float((found - truth).abs().max()))
    assert math.log2(errors[0] / errors[1]) > 2.6 and errors[1] > 1e-9


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_up_to_three_steps_it_is_euler_to_the_bit(steps: int) -> None:
    """The first step, the one after t = 0 and the last are of first order."""
    times = even(0.0, 1.0, steps)
    assert torch.equal(walk(DPMSolverPP2M(), times), walk(Euler(), times))
    assert not torch.equal(walk(DPMSolverPP2M(), even(0.0, 1.0, 4)), walk(Euler(), even(0.0, 1.0, 4)))


def test_chosen_positions_take_the_first_order() -> None:
    z, prev, chosen = start(), torch.zeros_like(start()), torch.tensor([[-1, 4, -1]] * 2)

    def step(sampler: Sampler, committed: Ids | None) -> Latents:
        def denoise(z: Latents, t: float, *_: object) -> Posterior:
            return gaussian(z, t)._replace(committed=committed)

        return one_step(sampler, denoise, PATH, z, 0.4, 0.6, prev, Noise([5, 6]), 0.2)[0]

    first, second, mixed = step(Euler(), None), step(DPMSolverPP2M(), None), step(DPMSolverPP2M(), chosen)
    assert not torch.isclose(first, second).any()
    assert_close(mixed, torch.where(chosen[..., None] >= 0, first, second), rtol=0, atol=0)
