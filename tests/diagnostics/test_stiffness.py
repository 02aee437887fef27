"""Stiffness against closed forms, dense Jacobians and known singular values."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.func import jvp, vjp
from torch.testing import assert_close

from textflow.diagnostics.sampler_steps import walk
from textflow.diagnostics.spectral import differentiable, size, spectral_norm, unit
from textflow.diagnostics.stiffness import Stiffness, stiffness
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.paths import Linear
from textflow.samplers import Euler, Heun, Reinject, Sampler, sample
from textflow.types import Given, Latents, Posterior

PATH = Linear(scale=2.0, floor=1e-6)
MU = 1.5
TIMES = [0.0, 0.3, 0.7, 1.0]
S, D = 3, 2
TURN = Noise([5]).normal(S * D, 2 * S * D)[0].double() / 40
TURN += torch.linspace(-1, 1, S * D)[:, None].double() * torch.linspace(0.5, 1.5, 2 * S * D).double() / 8


def two_modes(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
    """E[x | z_t] for x = +-mu in every coordinate: mu tanh(t mu z / sigma^2)."""
    return Posterior(MU * torch.tanh(t * MU * z / max((1 - t) * PATH.scale, 1e-9) ** 2))


def mixed(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
    """Smooth, no symmetry, positions and channels of a row mixed, one direction far ahead; hears its last belief."""
    heard = torch.zeros_like(z) if prev is None else prev
    return Posterior(4 * torch.tanh(torch.cat([z, heard], 1).flatten(1) @ TURN.to(z).T + t).unflatten(1, z.shape[1:]))


def deaf(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
    return mixed(z, t)


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(S, D).double() * PATH.scale


def measure(
    denoise: Callable[..., Posterior],
    sampler: Sampler = Euler(),
    times: list[float] = TIMES,
    z: Latents | None = None,
    **settings: object,
) -> Stiffness:
    z = start() if z is None else z
    noise, probes = Noise(range(100, 100 + len(z))), Noise(range(200, 200 + len(z)))
    return stiffness(
        lambda _: denoise, sampler, PATH, times, z, noise, probes, **{"iterations": 3, "starts": 2} | settings
    )


def dense(f: Callable[[Tensor], Tensor], z: Latents) -> Tensor:
    """|df/dz|_2 of every row, by its whole Jacobian."""
    rows = [jacobian(lambda x: f(x)[0], z[i : i + 1]).reshape(S * D, S * D) for i in range(len(z))]
    return torch.linalg.matrix_norm(torch.stack(rows), 2)


def rows_of(sampler: Sampler, denoise: Callable[..., Posterior], steps: int, row: int) -> Callable[[Tensor], Tensor]:
    """The first steps of the walk of one row, by the sampler's own loop."""
    return lambda z: sample(denoise, sampler, PATH, TIMES[: steps + 1], z, Noise([100 + row])).z


def test_two_modes_have_their_closed_form_at_zero() -> None:
    """dm/dz = mu^2 t / ((1 - t)^2 sigma^2), and Euler's step 1 - share + share dm/dz: far within 1 %."""
    found = measure(two_modes, z=torch.zeros(2, S, D, dtype=torch.float64))
    for k, (t, u) in enumerate(zip(TIMES, TIMES[1:], strict=False)):
        mean = MU**2 * t / ((1 - t) ** 2 * PATH.scale**2)
        share = (u - t) / (1 - t)
        assert_close(found.steps[k], torch.full((2,), 1 - share + share * mean).double(), rtol=1e-6, atol=0)
    assert found.steps[-1, 0] == pytest.approx(MU**2 * 0.7 / 0.09 / 4, rel=1e-6), "the last step is the mean's own"
    assert torch.equal(found.peak, found.steps[-1]) and found.steps[0, 0] < 1


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
    assert_close(size(push(found.direction))[:2], sizes[:2, 0].double(), rtol=1e-9, atol=0)
    early = spectral_norm(push, pull, starts, iterations=2)
    assert early.value[0] < 3 and early.spread[0] > 1e-3, "from below, and the spread says so"


def test_a_crowded_spectrum_needs_more_than_the_last_iterate() -> None:
    """48 singular values from .8 to 1 and one of 1.1: power iteration is 2 % off, the best of its span .2 %."""
    push, pull = turned(torch.cat([torch.linspace(0.8, 1, 47), torch.tensor([1.1])])[None])
    v = starts = Noise([0]).normal(6, 8).double()
    for _ in range(8):
        v = unit(pull(push(v)))
    found = spectral_norm(push, pull, starts[None])
    assert float(size(push(v))) < 1.1 * 0.98
    assert 1.1 * 0.998 < float(found.value) <= 1.1 * (1 + 1e-12)


def test_a_broken_row_is_not_a_number_and_the_others_stand() -> None:
    z = start()
    z[1, 0, 0] = torch.inf
    found, whole = measure(mixed, z=z), measure(mixed)
    assert found.steps[0, 1].isnan() and found.total[1].isnan()
    assert_close(found.steps[:, [0, 2]], whole.steps[:, [0, 2]], rtol=1e-9, atol=0)


@pytest.mark.parametrize("sampler", [Euler(), Heun(), *(Reinject(1.5, f) for f in ("released", "printed", "exact"))])
def test_steps_and_total_are_those_of_dense_jacobians(sampler: Sampler) -> None:
    """Of sampling itself: the noise of re-injection is that of `sample`, and the belief is carried in the total.
    Six iterations exhaust the six directions of a row."""
    found = measure(mixed, sampler, iterations=6, starts=1)
    trace = sample(mixed, sampler, PATH, TIMES, start(), Noise(range(100, 103)))
    for row in range(3):
        z = start()[row : row + 1]
        total = dense(rows_of(sampler, mixed, 3, row), z)
        assert_close(found.total[row : row + 1], total, rtol=1e-9, atol=0)
        assert_close(found.steps[:1, row], dense(rows_of(sampler, mixed, 1, row), z), rtol=1e-9, atol=0)
    step = walk(lambda _: mixed, sampler, PATH, TIMES, start(), Noise(range(100, 103)))[2]
    assert torch.equal(step.z, trace.states[2]) and torch.equal(step.prev, trace.beliefs[1].mean)


def test_the_noise_of_a_step_stands_still() -> None:
    """A map that draws is the same map each time, and the caller's streams do not move."""
    noise = Noise([1, 2, 3])
    step = walk(lambda _: mixed, Reinject(1.0), PATH, TIMES, start(), Noise([1, 2, 3]))[1]
    assert torch.equal(step.go(step.z), step.go(step.z))
    stiffness(lambda _: mixed, Reinject(1.0), PATH, TIMES, start(), noise, Noise([7, 8, 9]), iterations=1)
    assert torch.equal(noise.normal(4), Noise([1, 2, 3]).normal(4))


def test_a_sampled_choice_is_made_with_the_streams_of_sampling() -> None:
    """A denoiser that draws is rebuilt around the step's own noise; sampler and denoiser share the streams."""

    def drawing(noise: Noise) -> Callable[..., Posterior]:
        return lambda z, t, prev=None: Posterior(torch.tanh(z + noise.normal_like(z)))

    noise = Noise(range(3))
    trace = sample(drawing(noise), Reinject(0.5), PATH, TIMES, start(), noise)
    steps = walk(drawing, Reinject(0.5), PATH, TIMES, start(), Noise(range(3)))
    assert all(torch.equal(step.z, state) for step, state in zip(steps, trace.states, strict=True))
    assert torch.equal(steps[-1].go(steps[-1].z), trace.z)


def test_the_product_bounds_the_total_where_nothing_is_carried() -> None:
    alone = measure(deaf, iterations=6, starts=1)
    held, carried = (measure(mixed, iterations=6, starts=1, carry=carry) for carry in (False, True))
    for found in (alone, held):
        assert (found.total <= found.bound * (1 + 1e-9)).all() and (found.total < 0.95 * found.bound).any()
    assert not torch.allclose(held.total, carried.total, rtol=1e-2), "the belief heard matters here"
    assert torch.equal(held.steps, carried.steps)


def test_without_self_conditioning_carrying_changes_nothing() -> None:
    assert_close(measure(deaf, carry=True).total, measure(deaf, carry=False).total, rtol=1e-12, atol=0)


def test_one_step_to_text_is_the_jacobian_of_the_mean() -> None:
    found = measure(mixed, times=[0.0, 1.0], iterations=6)
    for row in range(3):
        mean = dense(lambda z: mixed(z, 0.0).mean, start()[row : row + 1])
        assert_close(found.steps[0, row : row + 1], mean, rtol=1e-9, atol=0)
    assert torch.equal(found.peak, found.steps[0]) and torch.equal(found.bound, found.steps[0])
    assert_close(found.total, found.steps[0], rtol=1e-9, atol=0)


def test_a_prompt_does_not_move_and_last_takes_the_last_step() -> None:
    z, fixed = start(), torch.tensor([True, False, False]).expand(3, S)
    found = measure(deaf, clean=torch.ones_like(z), fixed=fixed, last=lambda z, t, prev=None: Posterior(3 * z))
    assert_close(found.steps[-1], torch.full((3,), 3.0).double(), rtol=1e-9, atol=0)
    whole = measure(deaf, clean=torch.ones_like(z), fixed=torch.ones_like(fixed))
    assert not whole.steps.any() and not whole.total.any() and not whole.spread.any()
    trace = sample(deaf, Euler(), PATH, TIMES[:2], z, Noise(range(3)), torch.ones_like(z), fixed)
    steps = walk(lambda _: deaf, Euler(), PATH, TIMES, z, Noise(range(3)), torch.ones_like(z), fixed)
    assert torch.equal(steps[1].z, trace.z) and torch.equal(steps[1].prev[:, 0], torch.ones(3, D).double())


def committed(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
    """The sign of each position's first coordinate is chosen after t = 0: no slope, only a jump."""
    if t == 0:
        return Posterior(0 * z)
    said = (z[..., 0] > 0).long()
    return Posterior((2.0 * said[..., None] - 1).expand_as(z).to(z), chosen=said)


def test_choices_have_no_slope_and_are_counted_where_they_jump() -> None:
    """Far from the boundary none jumps; at it each may, and sure ones within the row do not."""
    z = torch.full((2, S, D), 2.0, dtype=torch.float64)
    z[1, :2, 0] = 1e-7
    found = measure(committed, z=z)
    shares = torch.tensor([(u - t) / (1 - t) for t, u in zip(TIMES, TIMES[1:], strict=False)], dtype=torch.float64)
    assert_close(found.steps, (1 - shares)[:, None].expand(3, 2), rtol=1e-9, atol=1e-12)
    assert found.jumps[1].tolist() == [0, 2] and found.jumps[0].tolist() == [0, 0]
    assert measure(two_modes).jumps.sum() == 0, "nothing is chosen"


def test_rows_do_not_depend_on_the_chunks() -> None:
    together, apart = measure(mixed, rows=8, iterations=2), measure(mixed, rows=2, iterations=2)
    assert_close(together.steps, apart.steps, rtol=1e-9, atol=0)
    alone = stiffness(
        lambda _: mixed, Reinject(1.0), PATH, TIMES, start()[2:], Noise([102]), Noise([202]), starts=2, iterations=2
    )
    batch = measure(mixed, Reinject(1.0), rows=2, iterations=2)
    assert_close(alone.total, batch.total[2:], rtol=1e-9, atol=0)
    assert_close(alone.spread[:, 0], batch.spread[:, 2], rtol=1e-9, atol=1e-12)


def network() -> Callable[..., Posterior]:
    torch.manual_seed(0)
    net = ELF(D, 11, width=8, depth=1, heads=2, bottleneck=4).double()
    torch.nn.init.normal_(net.out.weight, std=0.5)

    def denoise(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
        return net(z, z.new_full((len(z),), t), Given(prev=prev, w=z.new_full((len(z),), 1.5)))

    return denoise


def test_the_real_network_is_differentiated_both_ways() -> None:
    """J v and J^T v through ELF's attention, norms and gates, in float64, against its dense Jacobian."""
    denoise = network()
    step = walk(lambda _: denoise, Euler(), PATH, TIMES, start(1), Noise([0]))[1]
    J = jacobian(step.go, step.z).reshape(S * D, S * D).detach()
    v = Noise([3]).normal(S, D).double()
    with differentiable():
        pushed, pulled = jvp(step.go, (step.z,), (v,))[1], vjp(step.go, step.z)[1](v)[0]
    assert_close(pushed.flatten(), J @ v.flatten(), rtol=1e-9, atol=1e-12)
    assert_close(pulled.flatten(), J.T @ v.flatten(), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(pushed, pulled, rtol=1e-3), "a symmetric map would not tell one from the other"


def test_inference_mode_does_not_matter() -> None:
    """Lightning validates in it; what it made is copied."""
    settings = {"times": [0.0, 0.5, 1.0], "iterations": 2, "starts": 1}
    denoise = network()
    with torch.inference_mode():
        found = measure(denoise, z=start(1), **settings)
    outside = measure(denoise, z=start(1), **settings)
    assert_close(found.steps, outside.steps, rtol=1e-12, atol=0)
    assert found.steps.min() > 0 and not outside.steps.requires_grad


def test_the_summary_and_the_settings_are_kept() -> None:
    found = measure(mixed, iterations=4)
    assert (found.starts, found.iterations, found.positions, found.dtype) == (2, 4, S, "float64")
    assert found.times == TIMES and "Euler" in found.sampler and found.seeds == [100, 101, 102]
    summary = found.summary()
    assert float(summary["peak"]) == pytest.approx(float(found.steps.amax(0).mean()), rel=1e-12)
    assert summary["stiffness"].shape == (3,) and float(summary["total_max"]) == pytest.approx(float(found.total.max()))
    assert math.isfinite(float(summary["spread_max"].max())) and float(summary["spread_max"].max()) > 0
