"""The samplers by which evaluations, trajectories and leagues compare systems."""

import pytest

from tests.helpers.systems import SYSTEMS, make
from textflow.eval.distillation.measure import standard_samplers

TOKEN_DIFFUSION = ("MDLM", "Duo", "Loopholing")  # they have a sampler of their own


@pytest.mark.parametrize("system", [system for system in SYSTEMS if system not in TOKEN_DIFFUSION])
def test_each_standard_sampler_writes_texts_of_each_system(system: str) -> None:
    model = make(system)
    samplers = standard_samplers(model)
    for escape, sampler in samplers.values():
        assert len(model.sample([1, 2], 2, sampler, escape=escape).ids) == 2
    has_commit = system not in ("Cosmos", "DiLaDiff")  # whose latents are fewer than the tokens
    assert list(samplers) == ["ODE", "re-injection", *["mode commit"] * has_commit]
