"""Samplers that put the belief back under noise, by identities."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import ReplayedNoise, one_step, tanh_belief
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, LowNoiseResample, Sampler, SkipFirstCall, sample
from textflow.types import CommittedIds, Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)
CORRELATIONS = [("ancestral",), (0.0,), (0.6,), (1.0,), (1.0, 0.0), ("ancestral", 0.3)]
SAMPLERS = [Ancestral(*rho) for rho in CORRELATIONS]
STEPS = [(0.0, 0.3), (0.2, 0.5), (0.6, 0.9)]
TIMES = [0.0, 0.4, 0.45, 0.5, 1.0]


def constant(x: Latents, committed: CommittedIds | None = None) -> Callable[..., Posterior]:
    return lambda z, t, self_cond=None, *_: Posterior(x, None, committed)


def centred(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """A belief that depends on z after t = 0, where it is the prior's mean 0."""
    return Posterior(torch.tanh(z + t) if t > 0 else torch.zeros_like(z))


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(4, 2).double() * PATH.noise_scale


def run(sampler: Sampler, times: list[float] = TIMES, seed: int = 7, denoise: Callable = centred) -> Latents:
    return sample(denoise, sampler, PATH, times, start(), Noise(range(seed, seed + 3))).z


def step(sampler: Sampler, t: float, t_next: float, denoise: Callable[..., Posterior] = tanh_belief) -> Latents:
    return one_step(sampler, denoise, PATH, start(), t, t_next, None, Noise([7, 8, 9]))[0]


def noise_weights(sampler: Ancestral, t: float, t_next: float, committed: int = -1) -> tuple[float, float]:
    """Factors of the old and of the fresh noise in a step whose belief is the true text."""
    x, one = torch.full((1, 1, 1), 0.7, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    denoise = constant(x, torch.full((1, 1), committed))

    def end(old: Latents, fresh: Latents) -> Latents:
        return one_step(sampler, denoise, PATH, PATH.mix(x, old, t), t, t_next, None, ReplayedNoise([fresh]))[0]

    text = end(0 * one, 0 * one)
    assert float(text) == pytest.approx(t_next * 0.7, abs=1e-12), "the factor of the text is not the path's"
    return float(end(one, 0 * one) - text), float(end(0 * one, one) - text)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_with_the_true_text_the_noise_has_the_std_of_the_path(sampler: Ancestral) -> None:
    for t, t_next in STEPS:
        for committed in (-1, 3):
            std = math.hypot(*noise_weights(sampler, t, t_next, committed))
            assert std == pytest.approx(PATH.noise_scale * (1 - t_next), abs=1e-12)


@pytest.mark.parametrize(("t", "u"), STEPS)
def test_ancestral_noise_has_the_covariance_of_the_path(t: float, u: float) -> None:
    """z_t is z_u rewound: cov(z_t, z_u | x) = (alpha_t / alpha_u) sigma_u^2."""
    old, _ = noise_weights(Ancestral(), t, u)
    assert old * PATH.noise_scale * (1 - t) == pytest.approx(t / u * (PATH.noise_scale * (1 - u)) ** 2, abs=1e-12)
    assert t > 0 or old == 0, "at t = 0 all the noise is fresh"


def test_rho_is_the_correlation_with_the_old_noise_at_free_and_at_committed_positions() -> None:
    sampler, std = Ancestral(0.8, 0.25), PATH.noise_scale * 0.5
    assert noise_weights(sampler, 0.2, 0.5, -1)[0] == pytest.approx(0.8 * std, abs=1e-12)
    assert noise_weights(sampler, 0.2, 0.5, 0)[0] == pytest.approx(0.25 * std, abs=1e-12)
    z, committed = start(), torch.tensor([[2, -1, 0, -1]] * 3)
    mixed, old, fresh = (
        step(s, 0.3, 0.6, constant(0.5 * z, committed)) for s in (Ancestral(1.0, 0.0), Ancestral(1.0), Ancestral(0.0))
    )
    assert_close(mixed[:, [1, 3]], old[:, [1, 3]], rtol=0, atol=1e-12)
    assert torch.equal(mixed[:, [0, 2]], fresh[:, [0, 2]])


def test_rho_1_is_euler_to_the_bit() -> None:
    times = [i / 7 for i in range(8)]
    euler = run(Euler(), times, denoise=tanh_belief)
    for sampler, equal in ((Ancestral(1.0), True), (Ancestral(1.0, 1.0), True), (Ancestral(0.9), False)):
        assert torch.equal(run(sampler, times, denoise=tanh_belief), euler) == equal


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_rho_1_without_a_committed_position_is_euler(dtype: torch.dtype, tolerance: float) -> None:
    z = start().to(dtype)
    for t, u in ((0.0, 0.3), (0.3, 0.6), (0.6, 0.95)):
        moved, _ = one_step(Ancestral(1.0, 0.0), tanh_belief, PATH, z, t, u, None, Noise([1, 2, 3]))
        assert_close(moved, PATH.step(z, tanh_belief(z, t).mean, t, u), rtol=0, atol=tolerance)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_streams_do_not_depend_on_the_committed_positions(sampler: Ancestral) -> None:
    rest = []
    for committed in (None, torch.full((3, 4), -1), torch.zeros(3, 4, dtype=torch.long)):
        noise = Noise([1, 2, 3])
        one_step(sampler, constant(0.5 * start(), committed), PATH, start(), 0.3, 0.6, None, noise)
        rest.append(noise.normal(2))
    assert torch.equal(rest[0], rest[1]) and torch.equal(rest[0], rest[2])


def test_low_noise_resampling_scales_the_fresh_noise_of_consistency_sampling_and_not_the_text() -> None:
    none, half, full = (step(LowNoiseResample(fraction), 0.4, 0.5) for fraction in (0.0, 0.5, 1.0))
    assert_close(full, step(Ancestral(0.0), 0.4, 0.5), rtol=0, atol=1e-12)
    assert_close(none, 0.5 * tanh_belief(start(), 0.4).mean, rtol=0, atol=1e-12)
    assert_close(half - none, (full - none) / 2, rtol=0, atol=1e-12)
    times = TIMES[1:]  # without noise only the first step draws
    assert torch.equal(run(LowNoiseResample(0.0), times), run(LowNoiseResample(0.0), times, seed=99))
    assert not torch.equal(run(LowNoiseResample(0.5), times), run(LowNoiseResample(0.5), times, seed=99))


def test_the_first_low_noise_step_has_the_spread_of_noised_text() -> None:
    z, t_next = torch.zeros(64, 64, 2, dtype=torch.float64), 0.6
    belief = constant(torch.full_like(z, 0.5))
    end = one_step(LowNoiseResample(), belief, PATH, z, 0.0, t_next, None, Noise(range(64)))[0]
    variance = (PATH.noise_scale * (1 - t_next)) ** 2 + t_next**2 * (1 - 0.5**2)  # 8192 draws: standard error 1.6 %
    assert float(end.var()) == pytest.approx(variance, rel=0.07)
    assert float(end.mean()) == pytest.approx(t_next * 0.5, abs=0.04)


@pytest.mark.parametrize("sampler", [Euler(), DPMSolverPP2M()])
def test_skipping_the_first_call_changes_nothing_where_its_belief_is_0(sampler: Sampler) -> None:
    calls: list[float] = []

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        calls.append(t)
        return centred(z, t, self_cond)

    assert_close(run(SkipFirstCall(sampler), denoise=denoise), run(sampler), rtol=0, atol=1e-12)
    assert calls == TIMES[1:-1], "K + 1 steps cost K calls"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ancestral(1.2), r"noise_correlation = 1.2.*in \[0, 1\]"),
        (lambda: Ancestral("ancestral", -0.1), r"committed_noise_correlation = -0.1.*in \[0, 1\]"),
        (lambda: LowNoiseResample(1.5), r"noise_fraction = 1.5: LowNoiseResample needs a number in \[0, 1\]"),
    ],
)
def test_a_fraction_outside_0_and_1_is_refused(make: Callable[[], Sampler], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
