"""Paths whose ends are not 0 and 1: times, steps and noise stay between them."""

import pytest
import torch

from textflow.codecs import EmbeddingTable
from textflow.models.generator import Generator
from textflow.nets import DiT
from textflow.noise import Noise
from textflow.objectives import CrossEntropy
from textflow.paths import LinearPath
from textflow.readouts import FromPosterior
from textflow.samplers import Euler, FlowMapChurn, Heun, Reinject, Sampler, sample
from textflow.schedules import LogitNormal, Uniform
from textflow.types import Latents, Posterior

PATH = LinearPath(t_min=0.1, t_max=0.9)


@pytest.mark.parametrize("sampler", [Euler(), Heun(), Reinject(1.5, "marginal_preserving"), FlowMapChurn(0.5)], ids=str)
def test_a_sampler_stays_between_the_ends_and_keeps_the_marginal(sampler: Sampler) -> None:
    evaluated: list[float] = []

    def denoise(
        z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior:
        evaluated.extend([t] if t_next is None else [t, t_next])
        return Posterior(torch.ones_like(z))

    noise = Noise(list(range(8)))
    start = PATH.mix(torch.ones(8, 32, 8), noise.normal(32, 8), PATH.t_min)
    z = sample(denoise, sampler, PATH, [0.1, 0.3, 0.5, 0.7, 0.9], start, noise).z
    assert min(evaluated) >= 0.1 - 1e-12 and max(evaluated) <= 0.9 + 1e-12
    assert float(z.mean()) == pytest.approx(0.9, abs=0.03)
    assert float(z.std()) == pytest.approx(0.2, rel=0.1)  # a tenth of the noise, whose std at 0 is 2


@pytest.mark.parametrize("schedule", [Uniform(), Uniform(0.1, 0.9)], ids=["wider", "equal"])
def test_a_grid_has_the_law_between_the_ends(schedule: Uniform) -> None:
    assert schedule.grid(4, t_min=0.1, t_max=0.9) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_no_step_of_a_grid_is_empty() -> None:
    times = LogitNormal(-1.5, 0.8).grid(16, t_min=0.1, t_max=0.9)
    assert all(end > start + 1e-3 for start, end in zip(times, times[1:], strict=False))


def test_training_times_beyond_the_ends_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Uniform draws times from 0 to 1, but LinearPath runs from 0\.1"):
        Generator(
            8,
            codec=lambda vocab: EmbeddingTable(vocab, 8),
            net=lambda codec: DiT(codec, width=16, depth=1, heads=2, cond_width=8),
            objective=CrossEntropy(Uniform()),
            readout=FromPosterior(),
            token_readout=FromPosterior(),
            path=PATH,
        )
