"""ACE: what it feeds back, and its direction on a task whose direction of repetition is known by symmetry."""

import math
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests.helpers.tiny_generator import untrained
from tests.helpers.user_errors import refused
from textflow.metrics import sequence_repetition
from textflow.models.repetition import fit_ace
from textflow.noise import Noise
from textflow.oracle import Chain, ExactPosterior, GaussianAtoms, OracleTask
from textflow.oracle.tasks import block_diagonal
from textflow.paths import LinearPath
from textflow.samplers import ACE, Euler, Heun, State, repetition_direction
from textflow.schedules import LogitNormal
from textflow.types import Conditioning, Ids, Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)


class Fed(ExactPosterior):
    """The exact posterior, with the self-condition as further evidence of each token."""

    def log_likelihood(
        self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()
    ) -> Float[Tensor, "B S V"]:
        known = super().log_likelihood(z, t, cond)
        return known if cond.self_cond is None else known + 0.02 * cond.self_cond.double() @ self.codec.codes.T


def two_topics() -> OracleTask:
    """Half of the texts repeat two tokens in turn, the others draw from eight. Codes are +-1 on axis 0 by topic, and in
    pairs of opposite signs on the other axes: their reflection exchanges tokens of one topic and leaves the law as it
    is, so that the direction of repetition is axis 0."""
    repeats, draws = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.full((8, 8), 1 / 8)
    law = block_diagonal(repeats, draws).double()
    prior = Chain(torch.cat([torch.full((2,), 1 / 4), torch.full((8,), 1 / 16)]), law)
    codes = torch.zeros(10, 6, dtype=torch.float64)
    codes[:, 0] = torch.where(torch.arange(10) < 2, 1.0, -1.0)
    for pair in range(5):
        codes[2 * pair : 2 * pair + 2, 1 + pair] = torch.tensor([2.0, -2.0]).double()
    codec = GaussianAtoms(codes)
    return OracleTask("topics", prior, codec, Fed(prior, codec, PATH), PATH, length=12)


def steered(scale: float, num_samples: int = 120) -> Any:
    """A generator of the task, whose ACE is not estimated yet."""
    sampler = ACE(Euler(), scale, num_samples, num_steps=3)
    return two_topics().make_generator(sampler=sampler, sampling_schedule=LogitNormal(-0.2, 0.4))


def repetition(ids: Ids) -> float:
    return sum(map(sequence_repetition, ids.tolist())) / len(ids)


def angle_to_axis_0(direction: Tensor) -> float:
    return math.acos(min(float(direction[0]), 1.0))


def test_the_estimated_direction_is_the_known_one_within_its_interval() -> None:
    model = steered(2.0, 240)
    found = fit_ace(model)
    assert angle_to_axis_0(found.direction) <= found.angle < 0.15
    assert found.most > 0.5 > 0.1 > found.least and torch.equal(model.sampler.direction, found.direction)


def test_the_interval_holds_the_known_direction_as_often_as_it_says() -> None:
    """Gaussian predictions of 40 entries that grow with repetition along axis 0; 24 of 25 are expected within."""
    inside, angles = 0, list[float]()
    for seed in range(25):
        noise = Noise([seed])
        repeats, means = noise.uniform(60)[0], noise.normal(60, 40)[0].double()
        means[:, 0] += 6.0 * repeats
        found = repetition_direction(means, repeats, num_resamples=50)
        angles.append(found.angle)
        inside += angle_to_axis_0(found.direction) <= found.angle
    assert 21 <= inside <= 25 and 0.3 < sum(angles) / 25 < 0.8


def test_samples_repeat_less_the_larger_the_scale_and_at_0_they_are_the_plain_ones() -> None:
    model, seeds = steered(0.0, 60), list(range(1000, 1060))
    fit_ace(model)
    plain = model.sample(seeds, 4, Euler())
    assert torch.equal(model.sample(seeds, 4).trace.z, plain.trace.z)
    shares = [repetition(plain.ids)]
    for model.sampler.scale in (4.0, 16.0):
        shares.append(repetition(model.sample(seeds, 4).ids))
    assert shares[0] > shares[1] + 0.03 > shares[2] + 0.06


@pytest.mark.parametrize("inner", [Euler(), Heun()])
def test_every_self_condition_is_moved_and_no_belief(inner: Any) -> None:
    ace, fed, means = ACE(inner, 3.0), list[Latents](), list[Latents]()
    ace.direction = torch.tensor([0.0, 1.0])

    def denoise(z: Latents, t: float, self_cond: Any = None, t_next: Any = None, carry: Any = None) -> Posterior:
        if self_cond is not None:
            fed.append(self_cond)
        means.append(torch.tanh(z + t))
        return Posterior(means[-1])

    state, noise = State(Noise([1]).normal(3, 2), 0.0), Noise([2])
    for t_next in (0.5, 1.0):
        state = ace.step(denoise, PATH, state, t_next, noise)
    assert len(fed) == len(means) - 1 and state.belief is not None
    for moved, mean in zip(fed, means, strict=False):
        torch.testing.assert_close(moved, mean - torch.tensor([0.0, 3.0]))
    assert torch.equal(state.belief.mean, means[-1])


def test_a_run_that_cannot_be_steered_is_refused_with_the_reason() -> None:
    refused("ACE has no direction yet: lay it over a trained run", steered(2.0).sample, [1], 2)
    refused("no sample of 9 repeats itself more", repetition_direction, torch.randn(9, 2), torch.zeros(9))
    refused("num_samples 5 .* needs 6 samples", ACE, num_samples=5)
    model = untrained(sampler=ACE())
    model.text_format = model.text_format._replace(max_source_length=3)
    refused("this run answers sources", fit_ace, model)
    model.text_format = model.text_format._replace(max_source_length=None)
    model.ema_net.self_cond_proj.weight.data[:, model.codec.dim :] = 0
    refused("ELF of this run does not depend on one", fit_ace, model)
