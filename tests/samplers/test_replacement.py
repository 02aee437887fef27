"""The replacement method: prompts for a denoiser that was not trained on them."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

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
from textflow.samplers.prompt import Prompt, replacement_belief
from textflow.types import Posterior

PATH = LinearPath(2.0)
CLEAN = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
SAMPLERS = [
    *(Euler(), Heun(), DPMSolverPP2M(), Reinject(1.5), Reinject(1.0, "marginal_preserving"), Reinject(1.0, "paper")),
    *(Ancestral(), Ancestral(0.0), LowNoiseResample(), SkipFirstCall()),
]


def with_prompt(denoise: Any, z: torch.Tensor, mask: torch.Tensor = MASK) -> Any:
    """A denoiser with the prompt in its place; z is the noise of the samples."""
    prompt, eps = Prompt(CLEAN, mask, trained=False), z / 2.0

    def call(z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        return replacement_belief(denoise, PATH, prompt, eps, z, t, self_cond)

    return call


class RowMean:
    """The posterior mean is the mean of the row; records its inputs."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Tensor, float]] = []

    def __call__(self, z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        self.calls.append((z, t))
        return Posterior(z.mean(1, keepdim=True).expand_as(z))


def start() -> tuple[torch.Tensor, Noise]:
    noise = Noise([1, 2, 3])
    return 2.0 * noise.normal(6, 4), noise


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_net_sees_the_prompt_noised_by_the_path(sampler: Sampler) -> None:
    (z, noise), net = start(), RowMean()
    trace = sample(with_prompt(net, z), sampler, PATH, [0.0, 0.3, 0.7, 1.0], z, noise)
    assert net.calls
    for noisy, t in net.calls:  # z is all noise at t = 0
        assert_close(noisy[MASK], (t * CLEAN + (1 - t) * z)[MASK], atol=1e-5, rtol=1e-5)
    assert_close(trace.z[MASK], CLEAN[MASK], atol=1e-6, rtol=0)


def test_the_belief_has_the_clean_prompt_and_the_nets_mean_elsewhere() -> None:
    (z, _), net = start(), RowMean()
    belief = with_prompt(net, z)(z, 0.4)
    assert torch.equal(belief.mean[MASK], CLEAN[MASK])
    assert torch.equal(belief.mean[~MASK], net(net.calls[0][0], 0.4).mean[~MASK])


def test_an_empty_prompt_changes_nothing() -> None:
    ends = []
    for prompted in (False, True):
        z, noise = start()
        denoise = with_prompt(RowMean(), z, MASK & False) if prompted else RowMean()
        ends.append(sample(denoise, Reinject(1.5), PATH, [0.0, 0.5, 1.0], z, noise).z)
    assert torch.equal(*ends)
