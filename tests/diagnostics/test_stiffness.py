"""Stiffness against closed forms, dense Jacobians and known singular values."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.func import jvp, vjp
from torch.testing import assert_close

from textflow.codecs import LatentSpace
from textflow.diagnostics.sampler_steps import record_steps
from textflow.diagnostics.spectral import forward_mode, row_norm, spectral_norm, unit_rows
from textflow.diagnostics.stiffness import StiffnessResult, sampler_stiffness
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Euler, Heun, Reinject, Sampler, sample
from textflow.types import Conditioning, Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-6)
MU = 1.5
TIMES = [0.0, 0.3, 0.7, 1.0]
S, D = 3, 2
TURN = Noise([5]).normal(S * D, 2 * S * D)[0].double() / 40
TURN += torch.linspace(-1, 1, S * D)[:, None].double() * torch.linspace(0.5, 1.5, 2 * S * D).double() / 8


def two_modes(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """E[x | z_t] for x = +-mu in every coordinate: mu tanh(t mu z / sigma^2)."""
    return Posterior(MU * torch.tanh(t * MU * z / max((1 - t) * PATH.noise_scale, 1e-9) ** 2))


def mixed(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """Smooth, no symmetry, positions and channels of a row mixed, one dominant direction; self-conditioned."""
    heard = torch.zeros_like(z) if self_cond is None else self_cond
    return Posterior(4 * torch.tanh(torch.cat([z, heard], 1).flatten(1) @ TURN.to(z).T + t).unflatten(1, z.shape[1:]))


def deaf(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    return mixed(z, t)


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(S, D).double() * PATH.noise_scale


def measure(
    denoise: Callable[..., Posterior],
    sampler: Sampler = Euler(),
    times: list[float] = TIMES,
    z: Latents | None = None,
    **settings: object,
) -> StiffnessResult:
    z = start() if z is None else z
    noise, probes = Noise(range(100, 100 + len(z))), Noise(range(200, 200 + len(z)))
    return sampler_stiffness(
        lambda _: denoise, sampler, PATH, times, z, noise, probes, **{"num_iterations": 3, "num_starts": 2} | settings
    )


def dense(f: Callable[[Tensor], Tensor], z: Latents) -> Tensor:
    """|df/dz|_2 of every row, by its whole Jacobian."""
    rows = [jacobian(lambda x: f(x)[0], z[i : i + 1]).reshape(S * D, S * D) for i in range(len(z))]
    return torch.linalg.matrix_norm(torch.stack(rows), 2)


def rows_of(sampler: Sampler, denoise: Callable[..., Posterior], steps: int, row: int) -> Callable[[Tensor], Tensor]:
    """The first steps of one row's rollout, by the sampler's own loop."""
    return lambda z: sample(denoise, sampler, PATH, TIMES[: steps + 1], z, Noise([100 + row])).z


def test_two_modes_have_their_closed_form_at_zero() -> None:
    """dm/dz = mu^2 t / ((1 - t)^2 sigma^2), and Euler's step 1 - share + share dm/dz: far within 1 %."""
    found = measure(two_modes, z=torch.zeros(2, S, D, dtype=torch.float64))
    for k, (t, u) in enumerate(zip(TIMES, TIMES[1:], strict=False)):
        mean = MU**2 * t / ((1 - t) ** 2 * PATH.noise_scale**2)
        share = (u - t) / (1 - t)
        assert_close(found.step_norms[k], torch.full((2,), 1 - share + share * mean).double(), rtol=1e-6, atol=0)
    assert found.step_norms[-1, 0] == pytest.approx(MU**2 * 0.7 / 0.09 / 4, rel=1e-6), "the last step is the mean's own"
    assert torch.equal(found.peak, found.step_norms[-1]) and found.step_norms[0, 0] < 1


def turned(sizes: Tensor) -> tuple[Callable[[Latents], Latents], Callable[[Latents], Latents]]:
    """Products of maps with these singular values, one map a row [B, n], n = S d."""
    n = sizes.shape[-1]
    q, r = (torch.linalg.qr(Noise([seed]).normal(n, n)[0].double())[0] for seed in (1, 2))
    maps = q @ torch.diag_embed(sizes.double()) @ r

    def times(m: Tensor) -> Callable[[Latents], Latents]:
        return lambda v: torch.einsum("bij,bj->bi", m, v.flatten(1)).unflatten(1, v.shape[1:])

    return times(maps), times(maps.mT)


def test_the_spectral_norm_is_the_largest_singular_value() -> None:
    """Exact where the iterations exhaust the space, or the map has fewer directions; 0 of the map that is 0."""
    sizes = torch.tensor([[3.0, 2.0, 1.5, 1.0, 0.1, 0.0], [0.5, 0.1, 0.1, 0.0, 0.0, 0.0], [0.0] * 6, [2.0] * 6])
    push, pull = turned(sizes)
    starts = Noise(range(4)).normal(3, S, D).double().transpose(0, 1)
    found = spectral_norm(push, pull, starts)
    assert_close(found.value, sizes[:, 0].double(), rtol=1e-9, atol=1e-12)
    assert found.spread.max() < 1e-9
    assert_close(row_norm(push(found.direction))[:2], sizes[:2, 0].double(), rtol=1e-9, atol=0)
    early = spectral_norm(push, pull, starts, num_iterations=2)
    assert early.value[0] < 3 and early.spread[0] > 1e-3, "from below, and the spread says so"


def test_a_crowded_spectrum_needs_more_than_the_last_iterate() -> None:
    """48 singular values from .8 to 1 and one of 1.1: power iteration is 2 % off, the best of its span .2 %."""
    push, pull = turned(torch.cat([torch.linspace(0.8, 1, 47), torch.tensor([1.1])])[None])
    v = starts = Noise([0]).normal(6, 8).double()
    for _ in range(8):
        v = unit_rows(pull(push(v)))
    found = spectral_norm(push, pull, starts[None])
    assert float(row_norm(push(v))) < 1.1 * 0.98
    assert 1.1 * 0.998 < float(found.value) <= 1.1 * (1 + 1e-12)


def test_a_broken_row_is_not_a_number_and_the_others_stand() -> None:
    z = start()
    z[1, 0, 0] = torch.inf
    found, whole = measure(mixed, z=z), measure(mixed)
    assert found.step_norms[0, 1].isnan() and found.total_norm[1].isnan()
    assert_close(found.step_norms[:, [0, 2]], whole.step_norms[:, [0, 2]], rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "sampler", [Euler(), Heun(), *(Reinject(1.5, f) for f in ("code", "paper", "marginal_preserving"))]
)
def test_steps_and_total_are_those_of_dense_jacobians(sampler: Sampler) -> None:
    """Of sampling itself: the noise of re-injection is that of `sample`, and the belief is carried in the total.
    Six iterations exhaust the six directions of a row."""
    found = measure(mixed, sampler, num_iterations=6, num_starts=1)
    trace = sample(mixed, sampler, PATH, TIMES, start(), Noise(range(100, 103)))
    for row in range(3):
        z = start()[row : row + 1]
        total = dense(rows_of(sampler, mixed, 3, row), z)
        assert_close(found.total_norm[row : row + 1], total, rtol=1e-9, atol=0)
        assert_close(found.step_norms[:1, row], dense(rows_of(sampler, mixed, 1, row), z), rtol=1e-9, atol=0)
    step = record_steps(lambda _: mixed, sampler, PATH, TIMES, start(), Noise(range(100, 103)))[2]
    assert torch.equal(step.z, trace.states[2]) and torch.equal(step.self_cond, trace.beliefs[1].mean)


def test_the_noise_of_a_step_stands_still() -> None:
    """A map that draws is the same map each time, and the caller's streams do not move."""
    noise = Noise([1, 2, 3])
    step = record_steps(lambda _: mixed, Reinject(1.0), PATH, TIMES, start(), Noise([1, 2, 3]))[1]
    assert torch.equal(step.next_z(step.z), step.next_z(step.z))
    sampler_stiffness(lambda _: mixed, Reinject(1.0), PATH, TIMES, start(), noise, Noise([7, 8, 9]), num_iterations=1)
    assert torch.equal(noise.normal(4), Noise([1, 2, 3]).normal(4))


def test_a_sampled_choice_is_made_with_the_streams_of_sampling() -> None:
    """A denoiser that draws is rebuilt around the step's own noise; sampler and denoiser share the streams."""

    def drawing(noise: Noise) -> Callable[..., Posterior]:
        return lambda z, t, self_cond=None, *_: Posterior(torch.tanh(z + noise.normal_like(z)))

    noise = Noise(range(3))
    trace = sample(drawing(noise), Reinject(0.5), PATH, TIMES, start(), noise)
    steps = record_steps(drawing, Reinject(0.5), PATH, TIMES, start(), Noise(range(3)))
    assert all(torch.equal(step.z, state) for step, state in zip(steps, trace.states, strict=True))
    assert torch.equal(steps[-1].next_z(steps[-1].z), trace.z)


def test_the_product_bounds_the_total_where_nothing_is_carried() -> None:
    alone = measure(deaf, num_iterations=6, num_starts=1)
    held, carried = (measure(mixed, num_iterations=6, num_starts=1, carry_self_cond=carry) for carry in (False, True))
    for found in (alone, held):
        assert (found.total_norm <= found.bound * (1 + 1e-9)).all() and (found.total_norm < 0.95 * found.bound).any()
    assert not torch.allclose(held.total_norm, carried.total_norm, rtol=1e-2), "the belief heard matters here"
    assert torch.equal(held.step_norms, carried.step_norms)


def test_without_self_conditioning_carrying_changes_nothing() -> None:
    assert_close(
        measure(deaf, carry_self_cond=True).total_norm,
        measure(deaf, carry_self_cond=False).total_norm,
        rtol=1e-12,
        atol=0,
    )


def test_one_step_to_text_is_the_jacobian_of_the_mean() -> None:
    found = measure(mixed, times=[0.0, 1.0], num_iterations=6)
    for row in range(3):
        mean = dense(lambda z: mixed(z, 0.0).mean, start()[row : row + 1])
        assert_close(found.step_norms[0, row : row + 1], mean, rtol=1e-9, atol=0)
    assert torch.equal(found.peak, found.step_norms[0]) and torch.equal(found.bound, found.step_norms[0])
    assert_close(found.total_norm, found.step_norms[0], rtol=1e-9, atol=0)


def test_a_prompt_does_not_move_and_last_takes_the_last_step() -> None:
    z, fixed = start(), torch.tensor([True, False, False]).expand(3, S)
    found = measure(
        deaf,
        prompt=torch.ones_like(z),
        prompt_mask=fixed,
        final_denoise=lambda z, t, self_cond=None, *_: Posterior(3 * z),
    )
    assert_close(found.step_norms[-1], torch.full((3,), 3.0).double(), rtol=1e-9, atol=0)
    whole = measure(deaf, prompt=torch.ones_like(z), prompt_mask=torch.ones_like(fixed))
    assert not whole.step_norms.any() and not whole.total_norm.any() and not whole.step_spread.any()
    trace = sample(deaf, Euler(), PATH, TIMES[:2], z, Noise(range(3)), torch.ones_like(z), fixed)
    steps = record_steps(lambda _: deaf, Euler(), PATH, TIMES, z, Noise(range(3)), torch.ones_like(z), fixed)
    assert torch.equal(steps[1].z, trace.z) and torch.equal(steps[1].self_cond[:, 0], torch.ones(3, D).double())


def committed(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """Denoiser that commits the sign of each position's first coordinate after t = 0: no slope, only a jump."""
    if t == 0:
        return Posterior(0 * z)
    said = (z[..., 0] > 0).long()
    return Posterior((2.0 * said[..., None] - 1).expand_as(z).to(z), committed=said)


def test_choices_have_no_slope_and_are_counted_where_they_jump() -> None:
    """Far from the boundary none jumps; at it each may, and sure ones within the row do not."""
    z = torch.full((2, S, D), 2.0, dtype=torch.float64)
    z[1, :2, 0] = 1e-7
    found = measure(committed, z=z)
    shares = torch.tensor([(u - t) / (1 - t) for t, u in zip(TIMES, TIMES[1:], strict=False)], dtype=torch.float64)
    assert_close(found.step_norms, (1 - shares)[:, None].expand(3, 2), rtol=1e-9, atol=1e-12)
    assert found.num_jumps[1].tolist() == [0, 2] and found.num_jumps[0].tolist() == [0, 0]
    assert measure(two_modes).num_jumps.sum() == 0, "nothing is chosen"


def test_rows_do_not_depend_on_the_chunks() -> None:
    together, apart = measure(mixed, batch_size=8, num_iterations=2), measure(mixed, batch_size=2, num_iterations=2)
    assert_close(together.step_norms, apart.step_norms, rtol=1e-9, atol=0)
    alone = sampler_stiffness(
        lambda _: mixed,
        Reinject(1.0),
        PATH,
        TIMES,
        start()[2:],
        Noise([102]),
        Noise([202]),
        num_starts=2,
        num_iterations=2,
    )
    batch = measure(mixed, Reinject(1.0), batch_size=2, num_iterations=2)
    assert_close(alone.total_norm, batch.total_norm[2:], rtol=1e-9, atol=0)
    assert_close(alone.step_spread[:, 0], batch.step_spread[:, 2], rtol=1e-9, atol=1e-12)


def network() -> Callable[..., Posterior]:
    torch.manual_seed(0)
    net = ELF(LatentSpace(D, 11), width=8, depth=1, heads=2, bottleneck=4).double()
    torch.nn.init.normal_(net.out.weight, std=0.5)

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return net(z, z.new_full((len(z),), t), Conditioning(self_cond=self_cond, guidance=z.new_full((len(z),), 1.5)))

    return denoise


def test_the_real_network_is_differentiated_both_ways() -> None:
    """J v and J^T v through ELF's attention, norms and gates, in float64, against its dense Jacobian."""
    denoise = network()
    step = record_steps(lambda _: denoise, Euler(), PATH, TIMES, start(1), Noise([0]))[1]
    J = jacobian(step.next_z, step.z).reshape(S * D, S * D).detach()
    v = Noise([3]).normal(S, D).double()
    with forward_mode():
        pushed, pulled = jvp(step.next_z, (step.z,), (v,))[1], vjp(step.next_z, step.z)[1](v)[0]
    assert_close(pushed.flatten(), J @ v.flatten(), rtol=1e-9, atol=1e-12)
    assert_close(pulled.flatten(), J.T @ v.flatten(), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(pushed, pulled, rtol=1e-3), "a symmetric map would not tell one from the other"


def test_inference_mode_does_not_matter() -> None:
    """Lightning validates in it; what it made is copied."""
    settings = {"times": [0.0, 0.5, 1.0], "num_iterations": 2, "num_starts": 1}
    denoise = network()
    with torch.inference_mode():
        found = measure(denoise, z=start(1), **settings)
    outside = measure(denoise, z=start(1), **settings)
    assert_close(found.step_norms, outside.step_norms, rtol=1e-12, atol=0)
    assert found.step_norms.min() > 0 and not outside.step_norms.requires_grad


def test_the_summary_and_the_settings_are_kept() -> None:
    found = measure(mixed, num_iterations=4)
    assert (found.num_starts, found.num_iterations, found.num_latents, found.dtype) == (2, 4, S, "float64")
    assert found.times == TIMES and "Euler" in found.sampler and found.seeds == [100, 101, 102]
    summary = found.summary()
    assert float(summary["peak"]) == pytest.approx(float(found.step_norms.amax(0).mean()), rel=1e-12)
    assert summary["step_norm"].shape == (3,) and float(summary["total_max"]) == pytest.approx(
        float(found.total_norm.max())
    )
    assert math.isfinite(float(summary["step_spread_max"].max())) and float(summary["step_spread_max"].max()) > 0
