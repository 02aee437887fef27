"""Given latents for a denoiser that was not trained on prompts."""

from typing import Any

import pytest
import torch

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
from textflow.samplers.prompt import Prompt
from textflow.samplers.replacement import replacement_belief
from textflow.types import Posterior

PATH = LinearPath(2.0)
CLEAN = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
FIXED = torch.tensor([[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
SAMPLERS = [
    *(Euler(), Heun(), DPMSolverPP2M(), Reinject(1.5), Reinject(1.0, "marginal_preserving"), Reinject(1.0, "paper")),
    *(Ancestral(), Ancestral(0.0), LowNoiseResample(), SkipFirstCall()),
]


def replaced(denoise: Any, z: torch.Tensor, mask: torch.Tensor = FIXED) -> Any:
    """A denoiser with the given latents in their place; z is the noise of the samples."""
    prompt, eps = Prompt(CLEAN, mask, trained=False), z / 2.0

    def call(z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        return replacement_belief(denoise, PATH, prompt, eps, z, t, self_cond)

    return call


class Asked:
    """Believes the mean of the row, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Tensor, float]] = []

    def __call__(self, z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        self.calls.append((z, t))
        return Posterior(z.mean(1, keepdim=True).expand_as(z))


def start(seeds: list[int]) -> tuple[torch.Tensor, Noise]:
    noise = Noise(seeds)
    eps = noise.normal(6, 4)
    return PATH.mix(torch.zeros_like(eps), eps, 0.0), noise


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_net_sees_what_is_given_as_the_path_would_have_noised_it(sampler: Sampler) -> None:
    z, noise = start([1, 2, 3])
    asked = Asked()
    known = replaced(asked, z)
    trace = sample(known, sampler, PATH, [0.0, 0.3, 0.7, 1.0], z, noise)
    assert asked.calls
    for seen, t in asked.calls:
        expected = t * CLEAN + (1 - t) * z  # z is all noise at t = 0
        torch.testing.assert_close(seen[FIXED], expected[FIXED], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trace.z[FIXED], CLEAN[FIXED], atol=1e-6, rtol=0)


def test_the_belief_keeps_what_is_given_and_nothing_else() -> None:
    z, _ = start([1, 2, 3])
    asked = Asked()
    belief = replaced(asked, z)(z, 0.4)
    assert torch.equal(belief.mean[FIXED], CLEAN[FIXED])
    free = asked(asked.calls[0][0], 0.4).mean
    assert torch.equal(belief.mean[~FIXED], free[~FIXED])


def test_where_nothing_is_given_nothing_changes() -> None:
    (z, noise), (_, again) = start([1, 2, 3]), start([1, 2, 3])
    plain = sample(Asked(), Reinject(1.5), PATH, [0.0, 0.5, 1.0], z, noise)
    known = sample(replaced(Asked(), z, FIXED & False), Reinject(1.5), PATH, [0.0, 0.5, 1.0], z, again)
    assert torch.equal(plain.z, known.z)
