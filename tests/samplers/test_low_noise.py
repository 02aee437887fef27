"""A second look with little noise, and a start without a call: identities."""

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import one_step
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, LowNoiseResample, Sampler, SkipFirstCall, sample
from textflow.types import Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)
TIMES = [0.0, 0.4, 0.45, 0.5, 1.0]


def eager(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """A belief that depends on z after t = 0."""
    return Posterior(torch.tanh(z + t) if t > 0 else torch.zeros_like(z))


def start(rows: int = 3, length: int = 4) -> Latents:
    return Noise(range(rows)).normal(length, 2).double() * PATH.noise_scale


def walk(sampler: Sampler, seed: int = 7, times: list[float] = TIMES) -> Latents:
    return sample(eager, sampler, PATH, times, start(), Noise(range(seed, seed + 3))).z


def step(sampler: Sampler, t: float, u: float) -> Latents:
    return one_step(sampler, eager, PATH, start(), t, u, None, Noise([7, 8, 9]))[0]


def test_with_all_the_noise_a_later_step_is_consistency_sampling() -> None:
    assert_close(step(LowNoiseResample(1.0), 0.4, 0.5), step(Ancestral(0.0), 0.4, 0.5), rtol=0, atol=1e-12)


def test_a_step_scales_the_fresh_noise_and_not_the_text() -> None:
    half, none = step(LowNoiseResample(0.5), 0.4, 0.5), step(LowNoiseResample(0.0), 0.4, 0.5)
    assert_close(none, 0.5 * eager(start(), 0.4).mean, rtol=0, atol=1e-12)
    assert_close(half - none, (step(LowNoiseResample(1.0), 0.4, 0.5) - none) / 2, rtol=0, atol=1e-12)


def test_the_first_step_has_the_spread_of_noised_text() -> None:
    rows, length, u = 64, 64, 0.6
    told = lambda z, t, self_cond=None, *_: Posterior(torch.full_like(z, 0.5))  # noqa: E731
    z = torch.zeros(rows, length, 2, dtype=torch.float64)
    made = one_step(LowNoiseResample(), told, PATH, z, 0.0, u, None, Noise(range(rows)))[0]
    wanted = (PATH.noise_scale * (1 - u)) ** 2 + u**2 * (1 - 0.5**2)  # 8192 draws: standard error 1.6 %
    assert float(made.var()) == pytest.approx(wanted, rel=0.07)
    assert float(made.mean()) == pytest.approx(u * 0.5, abs=0.04)


def test_without_noise_only_the_first_step_draws() -> None:
    same = [0.4, 0.45, 0.5, 1.0]
    assert torch.equal(walk(LowNoiseResample(0.0), 7, same), walk(LowNoiseResample(0.0), 99, same))
    assert not torch.equal(walk(LowNoiseResample(0.5), 7, same), walk(LowNoiseResample(0.5), 99, same))


@pytest.mark.parametrize("sampler", [LowNoiseResample(), SkipFirstCall(LowNoiseResample()), SkipFirstCall()])
def test_the_step_to_1_returns_the_mean(sampler: Sampler) -> None:
    assert torch.equal(step(sampler, 0.6, 1.0), eager(start(), 0.6).mean)


def test_a_share_of_noise_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise_fraction = 1.5: LowNoiseResample needs a number in \[0, 1\]"):
        LowNoiseResample(1.5)


@pytest.mark.parametrize("inner", [Euler(), DPMSolverPP2M()])
def test_a_head_start_saves_the_call_at_pure_noise_where_its_belief_is_0(inner: Sampler) -> None:
    met: list[float] = []

    def noted(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        met.append(t)
        return eager(z, t, self_cond)

    made = sample(noted, SkipFirstCall(inner), PATH, TIMES, start(), Noise([7, 8, 9])).z
    assert met == TIMES[1:-1], "K + 1 steps cost K calls"
    assert_close(made, walk(inner), rtol=0, atol=1e-12)


def test_a_single_step_is_left_to_the_sampler() -> None:
    assert torch.equal(walk(SkipFirstCall(Euler()), times=[0.0, 1.0]), walk(Euler(), times=[0.0, 1.0]))
