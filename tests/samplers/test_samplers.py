"""Samplers by identities, on a posterior that is known exactly: text is +1 or -1, alike often, in every coordinate."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import one_step
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Euler, Heun, Reinject, Sampler, sample
from textflow.types import Latents, Posterior

PATH = LinearPath(noise_scale=1.0, min_one_minus_t=1e-6)
FORMS = ["code", "paper", "marginal_preserving"]


def two_modes(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """E[x | z_t] for x = +-1: tanh(alpha z / sigma^2)."""
    return Posterior(torch.tanh(t * z / max(PATH.noise_scale * (1 - t), 1e-12) ** 2))


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(4, 2).double() * PATH.noise_scale


def walk(sampler: Sampler, times: list[float], denoise: Callable = two_modes, z: Latents | None = None) -> Latents:
    z = start() if z is None else z
    return sample(denoise, sampler, PATH, times, z, Noise(range(100, 100 + len(z)))).z


def even(steps: int, end: float = 1.0) -> list[float]:
    return [end * i / steps for i in range(steps + 1)]


def slope(sampler: Sampler, end: float = 0.6) -> float:
    """Order of convergence: by how many powers of the step's length the error falls."""
    truth = walk(Heun(), even(2000, end))
    errors = [float((walk(sampler, even(n, end)) - truth).abs().max()) for n in (20, 40)]
    return math.log2(errors[0] / errors[1])


def test_euler_converges_in_first_order_and_heun_in_second() -> None:
    assert slope(Euler()) == pytest.approx(1, abs=0.15)
    assert slope(Heun()) == pytest.approx(2, abs=0.2)


def test_many_steps_end_on_text_in_the_right_proportion() -> None:
    z = walk(Euler(), even(100), z=start(200))
    assert_close(z.abs(), torch.ones_like(z), rtol=0, atol=0.05)
    assert abs(float(z.sign().mean())) < 4 / math.sqrt(z.numel())


@pytest.mark.parametrize("sampler", [Euler(), Heun(), *(Reinject(1.5, form) for form in FORMS)], ids=str)
def test_one_step_returns_the_mean_to_the_bit(sampler: Sampler) -> None:
    assert torch.equal(walk(sampler, [0.0, 1.0], eager), eager(start(), 0.0).mean)
    last = lambda z, t, self_cond=None, *_: Posterior(torch.full_like(z, 7.0) if t > 0 else z)  # noqa: E731
    if not isinstance(sampler, Reinject):
        assert torch.equal(walk(sampler, [0.0, 0.5, 1.0], last), torch.full_like(start(), 7.0))


@pytest.mark.parametrize("form", FORMS)
def test_without_strength_re_injection_is_euler_to_the_bit(form: str) -> None:
    assert torch.equal(walk(Reinject(0.0, form), even(7)), walk(Euler(), even(7)))
    assert not torch.equal(walk(Reinject(0.5, form), even(7)), walk(Euler(), even(7)))


def eager(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """A belief that depends on z at every time, also in pure noise."""
    return Posterior(torch.tanh(z + t))


@pytest.mark.parametrize("form", FORMS)
def test_one_step_of_re_injection_is_the_ode_to_the_bit(form: str) -> None:
    assert torch.equal(walk(Reinject(5.0, form), even(1), eager), walk(Euler(), even(1), eager))


@pytest.mark.parametrize("form", FORMS)
def test_the_last_step_of_re_injection_is_the_odes(form: str) -> None:
    trace = sample(eager, Reinject(1.5, form), PATH, even(3), start(), Noise([1, 2, 3]))
    assert torch.equal(trace.z, eager(trace.states[-1], 2 / 3).mean)
    assert not torch.equal(trace.beliefs[1].mean, eager(trace.states[1], 1 / 3).mean), "no noise was added before"


def test_the_forms_of_re_injection_differ() -> None:
    ends = [walk(Reinject(1.0, form), even(8)) for form in FORMS]
    assert not any(torch.equal(a, b) for a, b in ((ends[0], ends[1]), (ends[0], ends[2]), (ends[1], ends[2])))


def seen(form: str, gamma: float, t: float, u: float) -> tuple[Latents, float]:
    """The state and the time at which a step asks the network, for pure noise around the text 0."""
    asked = []

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        asked.append((z, t))
        return Posterior(torch.zeros_like(z))

    z = PATH.mix(torch.zeros(1, 300, 100, dtype=torch.float64), Noise([1]).normal(300, 100).double(), t)
    one_step(Reinject(gamma, form), denoise, PATH, z, t, u, None, Noise([2]))
    return asked[0]


def test_the_exact_form_keeps_the_variance_and_the_released_one_loses_some() -> None:
    t, u, gamma = 0.5, 0.75, 2.0
    for form, lost in (("marginal_preserving", False), ("code", True)):
        z, back = seen(form, gamma, t, u)
        assert back == pytest.approx((1 - gamma * (u - t)) * t)
        ratio = float(z.std()) / (PATH.noise_scale * (1 - back))
        assert (ratio < 0.9) if lost else ratio == pytest.approx(1, abs=5 / math.sqrt(2 * z.numel()))


@pytest.mark.parametrize("sampler", [Euler(), Heun(), *(Reinject(1.5, form) for form in FORMS)], ids=str)
def test_a_batch_is_its_samples_one_by_one(sampler: Sampler) -> None:
    together = sample(two_modes, sampler, PATH, even(5), start(), Noise([4, 5, 6])).z
    for i in range(3):
        alone = sample(two_modes, sampler, PATH, even(5), start()[i : i + 1], Noise([4 + i])).z
        assert torch.equal(together[i : i + 1], alone)


def test_the_loop_hands_on_the_last_belief_and_keeps_the_trace() -> None:
    given = []

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        given.append(self_cond)
        return two_modes(z, t)

    trace = sample(denoise, Euler(), PATH, even(3), start(), Noise([0, 1, 2]))
    assert (
        given[0] is None
        and torch.equal(given[1], trace.beliefs[0].mean)
        and torch.equal(given[2], trace.beliefs[1].mean)
    )
    assert len(trace.states) == len(trace.beliefs) == 3 and torch.equal(trace.states[0], start())
    assert torch.equal(PATH.step(trace.states[2], trace.beliefs[2].mean, 2 / 3, 1.0), trace.z)


def test_a_prompt_stands_at_every_step() -> None:
    z, clean = start(), torch.full_like(start(), 0.5)
    fixed = torch.tensor([True, False, True, False]).expand(3, 4)
    trace = sample(two_modes, Reinject(1.0), PATH, even(4), z, Noise([0, 1, 2]), clean, fixed)
    for state in (*trace.states, trace.z):
        assert torch.equal(state[fixed], clean[fixed])
    assert not torch.isclose(trace.z[~fixed], clean[~fixed]).all()
