"""Samplers by identities, on a posterior that is known exactly: text is +-1, equally often, in every coordinate."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import one_step, tanh_belief
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import (
    Ancestral,
    DPMSolverPP2M,
    Euler,
    Heun,
    LowNoiseResample,
    Reinject,
    Sampler,
    SkipFirstCall,
    sample,
)
from textflow.types import Latents, Posterior

PATH = LinearPath(noise_scale=1.0, min_one_minus_t=1e-9)
FORMS = ["code", "paper", "marginal_preserving"]
SAMPLERS = [
    *(Euler(), Heun(), DPMSolverPP2M(), *(Reinject(1.5, form) for form in FORMS), LowNoiseResample()),
    *(Ancestral(), Ancestral(0.0), Ancestral(0.6), Ancestral(1.0), Ancestral(1.0, 0.0), Ancestral("ancestral", 0.3)),
    *(SkipFirstCall(), SkipFirstCall(LowNoiseResample())),
]


def two_modes(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """E[x | z_t] for x = +-1: tanh(alpha z / sigma^2)."""
    return Posterior(torch.tanh(t * z / max(PATH.noise_scale * (1 - t), 1e-12) ** 2))


def start(rows: int = 3) -> Latents:
    return Noise(range(rows)).normal(4, 2).double() * PATH.noise_scale


def run(sampler: Sampler, times: list[float], denoise: Callable = two_modes, z: Latents | None = None) -> Latents:
    z = start() if z is None else z
    return sample(denoise, sampler, PATH, times, z, Noise(range(100, 100 + len(z)))).z


def uniform(steps: int, end: float = 1.0) -> list[float]:
    return [end * i / steps for i in range(steps + 1)]


def test_euler_converges_in_first_order_and_heun_in_second() -> None:
    truth = run(Heun(), uniform(240, 0.6))
    for sampler, order, tolerance in ((Euler(), 1, 0.15), (Heun(), 2, 0.2)):
        errors = [float((run(sampler, uniform(n, 0.6)) - truth).abs().max()) for n in (20, 40)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=tolerance), sampler


def test_many_steps_end_on_text_in_the_right_proportion() -> None:
    z = run(Euler(), uniform(100), z=start(200))
    assert_close(z.abs(), torch.ones_like(z), rtol=0, atol=0.05)
    assert abs(float(z.sign().mean())) < 4 / math.sqrt(z.numel())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_one_step_and_the_last_step_return_the_mean_to_the_bit(sampler: Sampler) -> None:
    assert torch.equal(run(sampler, [0.0, 1.0], tanh_belief), tanh_belief(start(), 0.0).mean)
    trace = sample(tanh_belief, sampler, PATH, [0.0, 0.4, 1.0], start(), Noise([7, 8, 9]))
    assert torch.equal(trace.z, tanh_belief(trace.states[-1], 0.4).mean)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_batch_is_its_samples_one_by_one(sampler: Sampler) -> None:
    times = [0.0, 0.3, 0.5, 0.8, 1.0]
    together = sample(tanh_belief, sampler, PATH, times, start(), Noise([4, 5, 6])).z
    for i in range(3):
        alone = sample(tanh_belief, sampler, PATH, times, start()[i : i + 1], Noise([4 + i])).z
        assert torch.equal(together[i : i + 1], alone)


def test_reinjection_is_euler_to_the_bit_without_strength_and_its_forms_differ_with_it() -> None:
    ends = [run(Euler(), uniform(8)), *(run(Reinject(1.0, form), uniform(8)) for form in FORMS)]
    assert not any(torch.equal(ends[i], ends[j]) for i in range(4) for j in range(i))
    for form in FORMS:
        assert torch.equal(run(Reinject(0.0, form), uniform(8)), ends[0])
    assert torch.equal(run(Reinject(1.0), uniform(8)), run(Reinject(1.0, "code"), uniform(8)))


@pytest.mark.parametrize(("t", "keep"), [(0.2, 0.8), (0.5, 0.6), (0.7, 0.25), (0.5, 0.0)])
def test_each_form_of_reinjection_leaves_the_noise_of_its_closed_form(t: float, keep: float) -> None:
    """marginal_preserving: the path's own, 1 - c t. code and paper: sqrt(c^2 (1 - t)^2 + (1 - c)^2), less."""
    less, path = math.hypot(keep * (1 - t), 1 - keep), LinearPath(noise_scale=2.0)
    z = path.mix(torch.zeros(1, 400, 100, dtype=torch.float64), Noise([1]).normal(400, 100).double(), t)
    for form, expected in (("marginal_preserving", 1 - keep * t), ("code", less), ("paper", less)):
        calls: list[tuple[Latents, float]] = []

        def zero_text(z: Latents, t: float, *_: object, calls=calls) -> Posterior:
            calls.append((z, t))
            return Posterior(torch.zeros_like(z))

        one_step(Reinject((1 - keep) / 0.25, form), zero_text, path, z, t, t + 0.25, None, Noise([2]))
        noisy, back = calls[0]
        assert back == pytest.approx(keep * t, abs=1e-12)
        assert float(noisy.std()) / path.noise_scale == pytest.approx(expected, rel=5 / math.sqrt(2 * z.numel())), form
    assert keep == 0 or less < 0.98 * (1 - keep * t), "the forms cannot be distinguished"


def test_the_loop_passes_the_last_belief_on_and_records_the_trace() -> None:
    self_conds = []

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        self_conds.append(self_cond)
        return two_modes(z, t)

    trace = sample(denoise, Euler(), PATH, uniform(3), start(), Noise([0, 1, 2]))
    assert self_conds[0] is None
    assert all(torch.equal(self_conds[i + 1], trace.beliefs[i].mean) for i in range(2))
    assert len(trace.states) == len(trace.beliefs) == 3 and torch.equal(trace.states[0], start())
    assert torch.equal(PATH.step(trace.states[2], trace.beliefs[2].mean, 2 / 3, 1.0), trace.z)


def test_a_prompt_is_restored_at_every_step() -> None:
    z, prompt = start(), torch.full_like(start(), 0.5)
    mask = torch.tensor([True, False, True, False]).expand(3, 4)
    trace = sample(two_modes, Reinject(1.0), PATH, uniform(4), z, Noise([0, 1, 2]), prompt, mask)
    for state in (*trace.states, trace.z):
        assert torch.equal(state[mask], prompt[mask])
    assert not torch.isclose(trace.z[~mask], prompt[~mask]).all()
