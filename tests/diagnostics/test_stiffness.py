"""Stiffness against closed forms and dense Jacobians."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from textflow.diagnostics.sampler_steps import record_steps
from textflow.diagnostics.stiffness import StiffnessResult, sampler_stiffness
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Euler, Heun, Reinject, Sampler, sample
from textflow.types import Latents, Posterior

pytestmark = pytest.mark.integration

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-6)
MU = 1.5
TIMES = [0.0, 0.3, 0.7, 1.0]
S, D = 3, 2
MIXING = Noise([5]).normal(S * D, 2 * S * D)[0].double() / 40
MIXING += torch.linspace(-1, 1, S * D)[:, None].double() * torch.linspace(0.5, 1.5, 2 * S * D).double() / 8


def two_modes(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """E[x | z_t] for x = +-mu in every coordinate: mu tanh(t mu z / sigma^2)."""
    return Posterior(MU * torch.tanh(t * MU * z / max((1 - t) * PATH.noise_scale, 1e-9) ** 2))


def mixed(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """Smooth, no symmetry, positions and channels of a row mixed, one dominant direction; self-conditioned."""
    previous = torch.zeros_like(z) if self_cond is None else self_cond
    state = torch.cat([z, previous], 1).flatten(1)
    return Posterior(4 * torch.tanh(state @ MIXING.to(z).T + t).unflatten(1, z.shape[1:]))


def without_self_cond(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    return mixed(z, t)


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(S, D).double() * PATH.noise_scale


def measure(
    denoise: Callable[..., Posterior],
    sampler: Sampler = Euler(),
    times: list[float] = TIMES,
    z: Latents | None = None,
    first_seed: int = 0,
    **settings: object,
) -> StiffnessResult:
    z, settings = start() if z is None else z, {"num_iterations": 3, "num_starts": 2} | settings
    seeds = range(100 + first_seed, 100 + first_seed + len(z))
    noise, probes = Noise(seeds), Noise([seed + 100 for seed in seeds])
    result = sampler_stiffness(lambda _: denoise, sampler, PATH, times, z, noise, probes, **settings)
    assert torch.equal(noise.normal(4), Noise(seeds).normal(4)), "the streams of the samples are not advanced"
    return result


@pytest.fixture(scope="module")
def mixed_result() -> StiffnessResult:
    return measure(mixed)


def dense_norm(f: Callable[[Tensor], Tensor], z: Latents) -> Tensor:
    """|df/dz|_2 of every row, by its dense Jacobian."""
    rows = [jacobian(lambda x: f(x)[0], z[i : i + 1]).reshape(S * D, S * D) for i in range(len(z))]
    return torch.linalg.matrix_norm(torch.stack(rows), 2)


def rollout_map(sampler: Sampler, steps: int, row: int) -> Callable[[Tensor], Tensor]:
    """The first steps of one row's rollout, by the sampler's own loop."""
    return lambda z: sample(mixed, sampler, PATH, TIMES[: steps + 1], z, Noise([100 + row])).z


def test_two_modes_match_their_closed_form_at_zero() -> None:
    """dm/dz = mu^2 t / ((1 - t)^2 sigma^2), and Euler's step is 1 - w + w dm/dz, w = (u - t) / (1 - t)."""
    result = measure(two_modes, z=torch.zeros(2, S, D, dtype=torch.float64))
    for k, (t, u) in enumerate(zip(TIMES, TIMES[1:], strict=False)):
        mean = MU**2 * t / ((1 - t) ** 2 * PATH.noise_scale**2)
        w = (u - t) / (1 - t)
        assert_close(result.step_norms[k], torch.full((2,), 1 - w + w * mean).double(), rtol=1e-6, atol=0)
    assert result.step_norms[-1, 0] == pytest.approx(MU**2 * 0.7 / 0.09 / 4, rel=1e-6)  # the mean's Jacobian
    assert torch.equal(result.peak, result.step_norms[-1]) and result.step_norms[0, 0] < 1


@pytest.mark.parametrize("sampler", [Euler(), Heun(), Reinject(1.5, "code")], ids=str)
def test_step_and_total_norms_match_dense_jacobians(sampler: Sampler) -> None:
    """Of sampling itself: the noise of re-injection is that of `sample`, and the belief is carried in the total.
    Six iterations exhaust the six directions of a row."""
    result = measure(mixed, sampler, num_iterations=6, num_starts=1)
    trace = sample(mixed, sampler, PATH, TIMES, start(), Noise(range(100, 103)))
    for row in (0, 2):
        z = start()[row : row + 1]
        total, first = (dense_norm(rollout_map(sampler, steps, row), z) for steps in (3, 1))
        assert_close(result.total_norm[row : row + 1], total, rtol=1e-9, atol=0)
        assert_close(result.step_norms[:1, row], first, rtol=1e-9, atol=0)
    step = record_steps(lambda _: mixed, sampler, PATH, TIMES, start(), Noise(range(100, 103)))[2]
    assert torch.equal(step.z, trace.states[2]) and torch.equal(step.self_cond, trace.beliefs[1].mean)


def test_a_denoiser_that_draws_uses_the_streams_of_sampling() -> None:
    """A denoiser that draws is rebuilt around the step's own noise; sampler and denoiser share the streams."""

    def drawing(noise: Noise) -> Callable[..., Posterior]:
        return lambda z, t, self_cond=None, *_: Posterior(torch.tanh(z + noise.normal_like(z)))

    noise = Noise(range(3))
    trace = sample(drawing(noise), Reinject(0.5), PATH, TIMES, start(), noise)
    steps = record_steps(drawing, Reinject(0.5), PATH, TIMES, start(), Noise(range(3)))
    assert all(torch.equal(step.z, state) for step, state in zip(steps, trace.states, strict=True))
    assert torch.equal(steps[-1].next_z(steps[-1].z), trace.z)
    assert torch.equal(steps[1].next_z(steps[1].z), steps[1].next_z(steps[1].z)), "a step repeats its noise"


def test_the_product_of_step_norms_bounds_the_total_unless_a_belief_is_carried() -> None:
    settings = {"times": [0.0, 0.5, 1.0], "num_iterations": 6, "num_starts": 1}
    unconditioned, held = measure(without_self_cond, **settings), measure(mixed, carry_self_cond=False, **settings)
    for result in (unconditioned, held):
        ratio = result.total_norm / result.bound
        assert (ratio <= 1 + 1e-9).all() and (ratio < 0.95).any()
    carried = measure(mixed, **settings)
    assert not torch.allclose(held.total_norm, carried.total_norm, rtol=1e-2), "the carried belief matters here"
    assert torch.equal(held.step_norms, carried.step_norms)
    dropped = measure(without_self_cond, carry_self_cond=False, **settings)
    assert_close(unconditioned.total_norm, dropped.total_norm, rtol=1e-12, atol=0)


def test_a_prompt_is_held_fixed_and_final_denoise_takes_the_last_step() -> None:
    z, fixed = start(2), torch.tensor([True, False, False]).expand(2, S)
    prompt = torch.ones_like(z)
    triple: Callable[..., Posterior] = lambda z, *_: Posterior(3 * z)  # noqa: E731
    result = measure(without_self_cond, z=z, prompt=prompt, prompt_mask=fixed, final_denoise=triple, num_starts=1)
    assert_close(result.step_norms[-1], torch.full((2,), 3.0).double(), rtol=1e-9, atol=0)
    full = measure(without_self_cond, z=z, prompt=prompt, prompt_mask=torch.ones_like(fixed), num_iterations=1)
    assert not full.step_norms.any() and not full.total_norm.any() and not full.step_spread.any()
    trace = sample(without_self_cond, Euler(), PATH, TIMES[:2], z, Noise(range(2)), prompt, fixed)
    steps = record_steps(lambda _: without_self_cond, Euler(), PATH, TIMES, z, Noise(range(2)), prompt, fixed)
    assert torch.equal(steps[1].z, trace.z) and torch.equal(steps[1].self_cond[:, 0], torch.ones(2, D).double())


def committed(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """Denoiser that commits the sign of each position's first coordinate after t = 0: no slope, only a jump."""
    if t == 0:
        return Posterior(0 * z)
    ids = (z[..., 0] > 0).long()
    return Posterior((2.0 * ids[..., None] - 1).expand_as(z).to(z), committed=ids)


def test_committed_tokens_count_as_jumps_and_have_no_slope() -> None:
    """No token jumps far from the boundary; those at the boundary do."""
    z = torch.full((2, S, D), 2.0, dtype=torch.float64)
    z[1, :2, 0] = 1e-7
    result = measure(committed, z=z)
    weights = torch.tensor([(u - t) / (1 - t) for t, u in zip(TIMES, TIMES[1:], strict=False)], dtype=torch.float64)
    assert_close(result.step_norms, (1 - weights)[:, None].expand(3, 2), rtol=1e-9, atol=1e-12)
    assert result.num_jumps[1].tolist() == [0, 2] and result.num_jumps[0].tolist() == [0, 0]
    assert measure(two_modes).num_jumps.sum() == 0, "nothing is committed"


def test_rows_do_not_depend_on_the_batch_size() -> None:
    settings = {"sampler": Reinject(1.0), "times": TIMES[1:], "num_iterations": 2}
    together, chunks = (measure(mixed, batch_size=size, **settings) for size in (8, 2))
    assert_close(together.step_norms, chunks.step_norms, rtol=1e-9, atol=0)
    alone = measure(mixed, z=start()[2:], first_seed=2, **settings)
    assert_close(alone.total_norm, chunks.total_norm[2:], rtol=1e-9, atol=0)
    assert_close(alone.step_spread[:, 0], chunks.step_spread[:, 2], rtol=1e-9, atol=1e-12)


def test_the_result_records_settings_and_a_row_not_finite_changes_no_other(mixed_result: StiffnessResult) -> None:
    result, summary = mixed_result, mixed_result.summary()
    assert (result.num_starts, result.num_iterations, result.num_latents, result.dtype) == (2, 3, S, "float64")
    assert result.times == TIMES and "Euler" in result.sampler and result.seeds == [100, 101, 102]
    assert float(summary["peak"]) == pytest.approx(float(result.step_norms.amax(0).mean()), rel=1e-12)
    assert summary["step_norm"].shape == (3,)
    assert float(summary["total_max"]) == pytest.approx(float(result.total_norm.max()))
    assert 0 < float(summary["step_spread_max"].max()) < math.inf
    z = start()
    z[1, 0, 0] = torch.inf
    result = measure(mixed, z=z)
    assert result.step_norms[0, 1].isnan() and result.total_norm[1].isnan()
    assert_close(result.step_norms[:, [0, 2]], mixed_result.step_norms[:, [0, 2]], rtol=1e-9, atol=0)
