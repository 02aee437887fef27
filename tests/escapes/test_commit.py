"""Commitment: what is chosen, what is fed, and that the streams are used alike."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.tiny_generator import untrained
from textflow.escapes import Commit, Everywhere, Gate, HighConfidence, LowConfidence, NoEscape
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Ancestral, sample
from textflow.types import Ids, Latents, Logits, Posterior

ROWS, LENGTH, VOCAB, DIM = 3, 6, 5, 2
SEEDS = [1, 2, 3]


def logits() -> Logits:
    return 2 * torch.randn(ROWS, LENGTH, VOCAB, generator=torch.Generator().manual_seed(0))


def belief() -> Posterior:
    return Posterior(torch.randn(ROWS, LENGTH, DIM, generator=torch.Generator().manual_seed(1)))


def embed(ids: Ids) -> Latents:
    """In context: the second coordinate is the sum of the row."""
    return torch.stack([ids.float(), ids.sum(-1, keepdim=True).expand(ids.shape).float()], -1)


def commit(escape: Commit, t: float = 0.5, noise: Noise | None = None) -> Posterior:
    return escape(belief(), t, logits, embed, noise or Noise(SEEDS))


def test_the_mode_is_embedded_everywhere() -> None:
    made, y = commit(Commit()), logits().argmax(-1)
    assert made.committed is not None and torch.equal(made.committed, y) and torch.equal(made.mean, embed(y))


def test_elsewhere_the_mean_stays_and_the_choice_is_minus_1() -> None:
    made, y, inside = (
        commit(Commit(gate=LowConfidence(0.6))),
        logits().argmax(-1),
        LowConfidence(0.6)(logits(), belief().mean, 0.5),
    )
    assert made.committed is not None and inside.any() and not inside.all()
    assert torch.equal(made.committed, torch.where(inside, y, -1))
    assert torch.equal(made.mean[inside], embed(y)[inside]), "the whole row is embedded, then the choice taken"
    assert torch.equal(made.mean[~inside], belief().mean[~inside])


def test_at_t_0_nothing_is_asked_and_nothing_changes() -> None:
    before = belief()

    def refuse() -> Logits:
        raise AssertionError("tokens were asked for")

    noise = Noise(SEEDS)
    assert Commit("sample")(before, 0.0, refuse, embed, noise) is before
    assert torch.equal(noise.normal(1), Noise(SEEDS).normal(1)), "the streams were used"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_choices_follow_the_posterior(temperature: float) -> None:
    n, line = 20_000, torch.tensor([1.0, 0.0, -1.0, -3.0])
    y = Commit("sample", temperature=temperature).choose_ids(line.expand(1, n, 4), Noise([0]))
    found, p = y.flatten().bincount(minlength=4).double() / n, (line.double() / temperature).softmax(-1)
    assert (found - p).abs().max() < 4 * math.sqrt(0.25 / n)


def test_a_low_temperature_is_the_mode() -> None:
    assert torch.equal(Commit("sample", temperature=1e-4).choose_ids(logits(), Noise(SEEDS)), logits().argmax(-1))
    assert not torch.equal(Commit("sample").choose_ids(logits(), Noise(SEEDS)), logits().argmax(-1))


@pytest.mark.parametrize(
    "gate", [LowConfidence(0.0), LowConfidence(0.6), HighConfidence(0.6)], ids=lambda gate: f"{type(gate).__name__}"
)
def test_a_gate_changes_neither_the_choices_nor_the_streams(gate: Gate) -> None:
    one, two = Noise(SEEDS), Noise(SEEDS)
    full, some = commit(Commit("sample"), noise=one).committed, commit(Commit("sample", gate), noise=two).committed
    assert full is not None and some is not None and torch.equal(some[some >= 0], full[some >= 0])
    assert not torch.equal(full, some) and torch.equal(one.normal(3), two.normal(3))


def test_a_codec_with_fewer_latents_than_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latent a token.*6 tokens have latents \(3, 2\)"):
        Commit()(Posterior(torch.zeros(ROWS, 3, DIM)), 0.5, logits, lambda ids: embed(ids)[:, ::2], Noise(SEEDS))


def test_a_temperature_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Commit("sample", temperature=0.0)


PATH, MU = LinearPath(noise_scale=1.0, min_one_minus_t=1e-9), 1.5


def two_atoms(escape: Commit | NoEscape, noise: Noise) -> object:
    """Tokens 0 and 1 at -mu and mu, alike often, each position for itself: the exact posterior, and an escape."""

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        score = 2 * t * MU * z[..., 0] / max(PATH.noise_scale * (1 - t), 1e-12) ** 2  # log p(1) / p(0)
        said = torch.stack([torch.zeros_like(score), score], -1)
        mean = MU * torch.tanh(score / 2)[..., None]
        return escape(Posterior(mean, said), t, lambda: said, lambda y: MU * (2 * y[..., None].double() - 1), noise)

    return denoise


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_mode_commit_on_two_atoms_follows_the_sign_of_the_noise(steps: int) -> None:
    """With the old noise kept, no choice is ever revised, and the fed mean lies on an atom instead of between them."""
    z = Noise(SEEDS).normal(50, 1).double() * PATH.noise_scale
    times, noise = [i / steps for i in range(steps + 1)], Noise(SEEDS)
    trace = sample(two_atoms(Commit(), noise), Ancestral(1.0), PATH, times, z, noise)
    sign = (z[..., 0] > 0).long()
    assert trace.beliefs[0].committed is None and steps > 1
    for step in trace.beliefs[1:]:
        assert step.committed is not None and torch.equal(step.committed, sign)
        assert_close(step.mean.abs(), torch.full_like(step.mean, MU), rtol=0, atol=1e-12)
    assert_close(trace.z[..., 0], MU * (2 * sign.double() - 1), rtol=0, atol=1e-12)


def test_a_gate_that_takes_nothing_is_no_escape() -> None:
    z, times = Noise(SEEDS).normal(50, 1).double(), [0.0, 0.3, 0.6, 1.0]
    ends = []
    for escape in (NoEscape(), Commit(gate=LowConfidence(0.0)), Commit()):
        noise = Noise(SEEDS)
        ends.append(sample(two_atoms(escape, noise), Ancestral(), PATH, times, z, noise).z)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


@pytest.fixture(scope="module")
def generator() -> Generator:
    return untrained()


@pytest.mark.parametrize("gate", [Everywhere(), LowConfidence(0.5)], ids=lambda gate: type(gate).__name__)
@pytest.mark.parametrize("choice", ["mode", "sample"])
def test_a_batch_gives_the_ids_of_its_samples_one_by_one(generator: Generator, choice: str, gate: Gate) -> None:
    seeds, escape, sampler = [11, 5, 902, 7, 7], Commit(choice, gate), Ancestral(0.5, 0.0)
    together = generator.sample(seeds, 5, sampler, escape=escape)
    alone = torch.cat([generator.sample([seed], 5, sampler, escape=escape).ids for seed in seeds])
    assert torch.equal(together.ids, alone) and torch.equal(together.ids[3], together.ids[4])
    assert not torch.equal(together.ids, generator.sample(seeds, 5, sampler).ids), "the escape changes nothing"
    chosen = [belief.committed for belief in together.trace.beliefs]
    assert chosen[0] is None and chosen[-1] is None and all(y is not None for y in chosen[1:-1])
