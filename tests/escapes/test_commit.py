"""Commitment: the chosen tokens, their embeddings, and the random streams."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.tiny_generator import untrained
from textflow.escapes import Commit, Escape, HighConfidence, LogitAdjustment, LowConfidence, NoEscape, Sharpen
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
    new, y = commit(Commit()), logits().argmax(-1)
    assert new.committed is not None and torch.equal(new.committed, y) and torch.equal(new.mean, embed(y))


def test_outside_the_gate_the_mean_is_unchanged_and_the_token_is_minus_1() -> None:
    gate, y = LowConfidence(0.6), logits().argmax(-1)
    new, inside = commit(Commit(gate=gate)), gate(logits(), belief().mean, 0.5)
    assert new.committed is not None and inside.any() and not inside.all()
    assert torch.equal(new.committed, torch.where(inside, y, -1))
    assert torch.equal(new.mean[inside], embed(y)[inside]), "the row is embedded, then the gated positions taken"
    assert torch.equal(new.mean[~inside], belief().mean[~inside])


@pytest.mark.parametrize("escape", [Commit("sample"), Sharpen(), LogitAdjustment()], ids=lambda e: type(e).__name__)
def test_at_t_0_no_logits_are_made_and_nothing_changes(escape: Escape) -> None:
    def refuse() -> Logits:
        raise AssertionError("logits were made")

    before, noise = belief(), Noise(SEEDS)
    assert escape(before, 0.0, refuse, embed, noise) is before
    assert torch.equal(noise.normal(1), Noise(SEEDS).normal(1)), "the streams were used"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampled_choices_follow_the_posterior(temperature: float) -> None:
    n, logits = 20_000, torch.tensor([1.0, 0.0, -1.0, -3.0])
    y = Commit("sample", temperature=temperature).choose_ids(logits.expand(1, n, 4), Noise([0]))
    rates, p = y.flatten().bincount(minlength=4).double() / n, (logits.double() / temperature).softmax(-1)
    assert (rates - p).abs().max() < 4 * math.sqrt(0.25 / n)


def test_a_low_temperature_is_the_mode() -> None:
    assert torch.equal(Commit("sample", temperature=1e-4).choose_ids(logits(), Noise(SEEDS)), logits().argmax(-1))
    assert not torch.equal(Commit("sample").choose_ids(logits(), Noise(SEEDS)), logits().argmax(-1))


def test_a_gate_changes_neither_the_choices_nor_the_streams() -> None:
    for gate in (LowConfidence(0.0), LowConfidence(0.6), HighConfidence(0.6)):
        one, two = Noise(SEEDS), Noise(SEEDS)
        full, gated = commit(Commit("sample"), noise=one).committed, commit(Commit("sample", gate), noise=two).committed
        assert full is not None and gated is not None and torch.equal(gated[gated >= 0], full[gated >= 0])
        assert not torch.equal(full, gated) and torch.equal(one.normal(3), two.normal(3))


def test_a_codec_with_fewer_latents_than_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latent per token.*6 tokens have latents \(3, 2\)"):
        Commit()(Posterior(torch.zeros(ROWS, 3, DIM)), 0.5, logits, lambda ids: embed(ids)[:, ::2], Noise(SEEDS))


def test_a_temperature_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Commit("sample", temperature=0.0)


PATH, MU = LinearPath(noise_scale=1.0, min_one_minus_t=1e-9), 1.5


def two_atoms(escape: Commit | NoEscape, noise: Noise) -> object:
    """The exact posterior, with an escape, of independent tokens 0 and 1 at -mu and mu, equally often."""

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        score = 2 * t * MU * z[..., 0] / max(PATH.noise_scale * (1 - t), 1e-12) ** 2  # log p(1) / p(0)
        logits = torch.stack([torch.zeros_like(score), score], -1)
        mean = MU * torch.tanh(score / 2)[..., None]
        return escape(Posterior(mean, logits), t, lambda: logits, lambda y: MU * (2 * y[..., None].double() - 1), noise)

    return denoise


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_mode_commit_on_two_atoms_follows_the_sign_of_the_noise(steps: int) -> None:
    """With the old noise, no choice is ever revised, and the mean lies on an atom instead of between them."""
    z = Noise(SEEDS).normal(50, 1).double() * PATH.noise_scale
    times, noise = [i / steps for i in range(steps + 1)], Noise(SEEDS)
    trace = sample(two_atoms(Commit(), noise), Ancestral(1.0), PATH, times, z, noise)
    sign = (z[..., 0] > 0).long()
    assert trace.beliefs[0].committed is None and steps > 1
    for step in trace.beliefs[1:]:
        assert step.committed is not None and torch.equal(step.committed, sign)
        assert_close(step.mean.abs(), torch.full_like(step.mean, MU), rtol=0, atol=1e-12)
    assert_close(trace.z[..., 0], MU * (2 * sign.double() - 1), rtol=0, atol=1e-12)


def test_a_gate_without_positions_equals_no_escape() -> None:
    z, times = Noise(SEEDS).normal(50, 1).double(), [0.0, 0.3, 0.6, 1.0]
    ends = []
    for escape in (NoEscape(), Commit(gate=LowConfidence(0.0)), Commit()):
        noise = Noise(SEEDS)
        ends.append(sample(two_atoms(escape, noise), Ancestral(), PATH, times, z, noise).z)
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


@pytest.mark.integration
@pytest.mark.parametrize("escape", [Commit("mode"), Commit("sample", LowConfidence(0.5))], ids=["mode", "sample"])
def test_a_batch_gives_the_ids_of_its_samples_one_by_one(escape: Commit) -> None:
    generator, seeds, sampler = untrained(), [11, 5, 902, 7, 7], Ancestral(0.5, 0.0)
    together = generator.sample(seeds, 5, sampler, escape=escape)
    alone = torch.cat([generator.sample([seed], 5, sampler, escape=escape).ids for seed in seeds])
    assert torch.equal(together.ids, alone) and torch.equal(together.ids[3], together.ids[4])
    assert not torch.equal(together.ids, generator.sample(seeds, 5, sampler).ids), "the escape changes nothing"
    committed = [belief.committed is not None for belief in together.trace.beliefs]
    assert committed == [False, True, True, True, False]
