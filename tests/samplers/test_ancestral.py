"""Old and fresh noise, by identities."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import one_step
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, Sampler, sample
from textflow.types import CommittedIds, Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)
WAYS = [Ancestral(), Ancestral(0.0), Ancestral(0.6), Ancestral(1.0), Ancestral(1.0, 0.0), Ancestral("ancestral", 0.3)]


class Replayed(Noise):
    """Given draws in place of streams."""

    def __init__(self, eps: Latents) -> None:
        self.eps = eps

    def normal_like(self, z: torch.Tensor) -> torch.Tensor:
        return self.eps


def eager(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """A belief that depends on z at every time."""
    return Posterior(torch.tanh(z + t))


def holding(x: Latents, chosen: CommittedIds | None = None) -> Callable[..., Posterior]:
    return lambda z, t, self_cond=None, *_: Posterior(x, None, chosen)


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(4, 2).double() * PATH.noise_scale


def walk(sampler: Sampler, steps: int, denoise: Callable[..., Posterior] = eager) -> Latents:
    times = [i / steps for i in range(steps + 1)]
    return sample(denoise, sampler, PATH, times, start(), Noise([7, 8, 9])).z


def weights(way: Ancestral, t: float, u: float, chosen: int = -1) -> tuple[float, float]:
    """What a step gives to the old noise e and to the fresh noise, believing in the true text."""
    x, one = torch.full((1, 1, 1), 0.7, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    denoise = holding(x, torch.full((1, 1), chosen))
    at = lambda old, fresh: one_step(way, denoise, PATH, PATH.mix(x, old, t), t, u, None, Replayed(fresh))[0]  # noqa: E731
    none = at(0 * one, 0 * one)
    assert float(none) == pytest.approx(u * 0.7, abs=1e-12), "the text's share is not the path's"
    return float(at(one, 0 * one) - none), float(at(0 * one, one) - none)


@pytest.mark.parametrize(("t", "u"), [(0.0, 0.3), (0.2, 0.5), (0.6, 0.9)])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_with_the_true_text_the_noise_has_the_paths_own_std(way: Ancestral, t: float, u: float) -> None:
    for chosen in (-1, 3):
        old, fresh = weights(way, t, u, chosen)
        assert math.hypot(old, fresh) == pytest.approx(PATH.noise_scale * (1 - u), abs=1e-12)


@pytest.mark.parametrize(("t", "u"), [(0.0, 0.3), (0.2, 0.5), (0.6, 0.9)])
def test_ancestral_noise_is_the_paths_law_given_where_it_was(t: float, u: float) -> None:
    """z_t is z_u rewound: cov(z_t, z_u | x) = (alpha_t / alpha_u) sigma_u^2."""
    old, _ = weights(Ancestral(), t, u)
    assert old * PATH.noise_scale * (1 - t) == pytest.approx(t / u * (PATH.noise_scale * (1 - u)) ** 2, abs=1e-12)
    assert t > 0 or old == 0, "at t = 0 all the noise is fresh"


def test_rho_is_the_share_of_the_old_noise_outside_and_inside() -> None:
    way, std = Ancestral(0.8, 0.25), PATH.noise_scale * 0.5
    assert weights(way, 0.2, 0.5, -1)[0] == pytest.approx(0.8 * std, abs=1e-12)
    assert weights(way, 0.2, 0.5, 0)[0] == pytest.approx(0.25 * std, abs=1e-12)


def test_rho_1_is_euler_to_the_bit() -> None:
    assert torch.equal(walk(Ancestral(1.0), 7), walk(Euler(), 7))
    assert torch.equal(walk(Ancestral(1.0, 1.0), 7), walk(Euler(), 7))
    assert not torch.equal(walk(Ancestral(0.9), 7), walk(Euler(), 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rho_1_where_nothing_is_chosen_is_euler(dtype: torch.dtype) -> None:
    z, way = start().to(dtype), Ancestral(1.0, 0.0)
    for t, u in ((0.0, 0.3), (0.3, 0.6), (0.6, 0.95)):
        moved, _ = one_step(way, eager, PATH, z, t, u, None, Noise([1, 2, 3]))
        assert_close(
            moved, PATH.step(z, eager(z, t).mean, t, u), rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12
        )


@pytest.mark.parametrize("way", [*WAYS, DPMSolverPP2M()], ids=str)
def test_one_step_and_the_last_step_return_the_mean_to_the_bit(way: Sampler) -> None:
    assert torch.equal(walk(way, 1), eager(start(), 0.0).mean)
    trace = sample(eager, way, PATH, [0.0, 0.4, 1.0], start(), Noise([7, 8, 9]))
    assert torch.equal(trace.z, eager(trace.states[-1], 0.4).mean)


def test_only_the_chosen_positions_take_the_inner_share() -> None:
    z, chosen = start(), torch.tensor([[2, -1, 0, -1]] * 3)
    way, both = Ancestral(1.0, 0.0), [Ancestral(1.0), Ancestral(0.0)]
    ends = [one_step(w, holding(0.5 * z, chosen), PATH, z, 0.3, 0.6, None, Noise([1, 2, 3]))[0] for w in (way, *both)]
    assert_close(ends[0][:, [1, 3]], ends[1][:, [1, 3]], rtol=0, atol=1e-12)
    assert torch.equal(ends[0][:, [0, 2]], ends[2][:, [0, 2]])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_streams_are_used_alike_whatever_is_chosen(way: Ancestral) -> None:
    left = []
    for chosen in (None, torch.full((3, 4), -1), torch.zeros(3, 4, dtype=torch.long)):
        noise = Noise([1, 2, 3])
        one_step(way, holding(0.5 * start(), chosen), PATH, start(), 0.3, 0.6, None, noise)
        left.append(noise.normal(2))
    assert torch.equal(left[0], left[1]) and torch.equal(left[0], left[2])


@pytest.mark.parametrize("way", [*WAYS, DPMSolverPP2M()], ids=str)
def test_a_batch_is_its_samples_one_by_one(way: Sampler) -> None:
    times = [0.0, 0.3, 0.5, 0.8, 1.0]
    together = sample(eager, way, PATH, times, start(), Noise([4, 5, 6])).z
    for i in range(3):
        assert torch.equal(together[i : i + 1], sample(eager, way, PATH, times, start()[i : i + 1], Noise([4 + i])).z)


def test_a_share_outside_0_and_1_is_refused() -> None:
    for name, arguments in (("noise_correlation", (1.2,)), ("committed_noise_correlation", ("ancestral", -0.1))):
        with pytest.raises(ValueError, match=rf"{name} = .*in \[0, 1\]"):
            Ancestral(*arguments)
