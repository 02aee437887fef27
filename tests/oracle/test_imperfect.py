"""Imperfect denoisers: each fault alone, and none at all."""

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.oracle import OracleTask, PerturbedPosterior
from textflow.oracle.imperfect import forget_context
from textflow.oracle.worlds import chain_task, text_task, topic_task
from textflow.types import Latents


def seen(world: OracleTask, t: float = 0.4, rows: int = 64) -> tuple[torch.Tensor, Latents, torch.Tensor]:
    ids = world.sample(Noise(range(rows)))
    x = world.codec.sample_latents(ids, Noise(range(500, 500 + rows))).double()
    z = world.path.mix(x, Noise(range(900, 900 + rows)).normal_like(x), t)
    return ids, z, torch.full((rows,), t).double()


@pytest.mark.parametrize("make", [chain_task, text_task, topic_task])
def test_without_faults_it_is_the_exact_one_to_the_bit(make) -> None:
    _, z, t = seen(make(0))
    exact, same = make(0).denoiser, PerturbedPosterior(make(0).exact_posterior)
    assert torch.equal(same(z, t).mean, exact(z, t).mean) and torch.equal(same(z, t).logits, exact(z, t).logits)
    nearly = PerturbedPosterior(make(0).exact_posterior, beta=1 + 1e-12)  # the same through the formula
    assert_close(nearly(z, t).mean, exact(z, t).mean, rtol=0, atol=1e-9)


def test_forgetting_all_leaves_each_token_its_own_evidence() -> None:
    world = chain_task(0)
    _, z, t = seen(world)
    loglik = world.denoiser.log_likelihood(z, t[:, None].expand(-1, 32))
    alone = (loglik + world.prior.initial.log()).softmax(-1)
    assert_close(
        PerturbedPosterior(world.exact_posterior, forget_share=1.0)(z, t).logits.softmax(-1), alone, rtol=0, atol=1e-12
    )


def test_forgetting_costs_nll_in_proportion() -> None:
    world = chain_task(0)
    ids = world.sample(Noise(range(64)))
    nll = [float(forget_context(world.prior, lam).nll(ids).mean()) for lam in (0.0, 0.3, 1.0)]
    assert nll[0] < nll[1] - 0.1 < nll[2] - 1
    assert nll[0] == float(world.prior.nll(ids).mean())


def test_sharpening_changes_how_sure_it_is_but_not_of_what() -> None:
    world = chain_task(0)
    ids, z, t = seen(world, rows=256)
    exact, sharp = (
        d(z, t).logits.softmax(-1) for d in (world.denoiser, PerturbedPosterior(world.exact_posterior, beta=3.0))
    )
    assert torch.equal(exact.argmax(-1), sharp.argmax(-1))
    error = float((exact.argmax(-1) != ids).double().mean())
    assert float(1 - exact.amax(-1).mean()) == pytest.approx(error, abs=0.03)  # calibrated; 4 SD of 8192 tokens
    assert float(1 - sharp.amax(-1).mean()) < error / 2


def test_the_error_field_is_fixed_of_unit_size_and_costs_accuracy() -> None:
    world = chain_task(0)
    ids, z, t = seen(world, rows=128)
    wrong = PerturbedPosterior(world.exact_posterior, logit_error=1.0)
    field = wrong.error_field(z, t[:, None].expand(-1, 32))
    assert float(field.std()) == pytest.approx(1, abs=0.15) and abs(float(field.mean())) < 0.15
    assert torch.equal(wrong(z, t).mean, wrong(z, t).mean)
    assert_close(wrong(z, t).mean[3:4], wrong(z[3:4], t[3:4]).mean, rtol=1e-10, atol=1e-10)
    assert not torch.isclose(
        wrong(z, t).mean, PerturbedPosterior(world.exact_posterior, logit_error=1.0, seed=1)(z, t).mean
    ).all()
    hits = [float((d(z, t).logits.argmax(-1) == ids).double().mean()) for d in (world.denoiser, wrong)]
    assert hits[0] > hits[1] + 0.03


def test_the_mean_belongs_to_the_spoilt_tokens() -> None:
    world = chain_task(0)
    _, z, t = seen(world)
    belief = PerturbedPosterior(world.exact_posterior, 0.2, 2.0, 0.5)(z, t)
    assert_close(belief.mean, belief.logits.softmax(-1) @ world.codec.codes.double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("fault", [{"forget_share": -0.1}, {"forget_share": 1.5}, {"beta": 0.0}])
def test_impossible_faults_are_refused(fault: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs forget_share in"):
        PerturbedPosterior(chain_task(0).exact_posterior, **fault)
