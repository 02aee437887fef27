"""The flow-map sampler with churn against tensors of the published code."""

import pytest
import torch

from tests.helpers.flm_nets import decode_error_schedule, dit
from tests.helpers.recordings import constant, error, part, recorded
from tests.helpers.sampling import ReplayedNoise
from textflow.paths import LinearPath
from textflow.samplers import FlowMapChurn, sample
from textflow.types import Conditioning, Latents, Posterior

DATA, META = recorded("fmlm")
CASES = [(gamma, steps) for gamma in META["config"]["gammas"] for steps in META["config"]["steps"]]


@pytest.mark.integration
@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize(("gamma", "steps"), CASES)
def test_samples_are_the_published_ones(gamma: float, steps: int) -> None:
    schedule = decode_error_schedule(META["config"])
    softcap = constant(META["config"], "logit_softcap")
    net = dit(part(DATA, "weights."), logit_softcap=softcap, time_schedule=schedule).eval()
    name = f"sample.g{gamma}.k{steps}"

    def denoise(z: Latents, t: float, self_cond: Latents | None, t_next: float, carry: object = None) -> Posterior:
        times, ends = (torch.full((len(z),), time) for time in (t, t_next))
        return net(z, times, Conditioning(end_time=ends))

    grid, noise = schedule.grid(steps), ReplayedNoise(DATA.get(f"{name}.eps", []))
    trace = sample(denoise, FlowMapChurn(gamma), LinearPath(1.0, 0.0), grid, DATA[f"{name}.z0"], noise)
    assert error(trace.z, DATA[f"{name}.z1"]) < 1e-5
    assert torch.equal(trace.z.argmax(-1), DATA[f"{name}.ids"])


def test_a_fraction_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma = 1.5"):
        FlowMapChurn(1.5)
