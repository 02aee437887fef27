"""Imperfect denoisers: each error alone, and none."""

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.oracle import OracleTask, PerturbedPosterior
from textflow.oracle.imperfect import forget_context
from textflow.oracle.tasks import chain_task, text_task, topic_task
from textflow.types import Latents


def noised(task: OracleTask, t: float = 0.4, rows: int = 64) -> tuple[torch.Tensor, Latents, torch.Tensor]:
    ids = task.sample(Noise(range(rows)))
    x = task.codec.sample_latents(ids, Noise(range(500, 500 + rows))).double()
    z = task.path.mix(x, Noise(range(900, 900 + rows)).normal_like(x), t)
    return ids, z, torch.full((rows,), t).double()


@pytest.mark.parametrize("make", [chain_task, text_task, topic_task])
def test_without_errors_it_equals_the_exact_posterior_bit_for_bit(make) -> None:
    _, z, t = noised(make(0))
    exact, same = make(0).denoiser, PerturbedPosterior(make(0).exact_posterior)
    assert torch.equal(same(z, t).mean, exact(z, t).mean) and torch.equal(same(z, t).logits, exact(z, t).logits)
    nearly = PerturbedPosterior(make(0).exact_posterior, beta=1 + 1e-12)  # the same through the formula
    assert_close(nearly(z, t).mean, exact(z, t).mean, rtol=0, atol=1e-9)


def test_without_context_each_token_has_only_its_own_evidence() -> None:
    task = chain_task(0)
    _, z, t = noised(task)
    loglik = task.denoiser.log_likelihood(z, t[:, None].expand(-1, 32))
    alone = (loglik + task.prior.initial.log()).softmax(-1)
    gamma = PerturbedPosterior(task.exact_posterior, forget_share=1.0)(z, t).logits.softmax(-1)
    assert_close(gamma, alone, rtol=0, atol=1e-12)


def test_forgetting_context_raises_the_nll() -> None:
    task = chain_task(0)
    ids = task.sample(Noise(range(64)))
    nll = [float(forget_context(task.prior, lam).nll(ids).mean()) for lam in (0.0, 0.3, 1.0)]
    assert nll[0] < nll[1] - 0.1 < nll[2] - 1
    assert nll[0] == float(task.prior.nll(ids).mean())


def test_sharpening_changes_the_confidence_but_not_the_tokens() -> None:
    task = chain_task(0)
    ids, z, t = noised(task, rows=256)
    sharpened = PerturbedPosterior(task.exact_posterior, beta=3.0)
    exact, sharp = (denoiser(z, t).logits.softmax(-1) for denoiser in (task.denoiser, sharpened))
    assert torch.equal(exact.argmax(-1), sharp.argmax(-1))
    error = float((exact.argmax(-1) != ids).double().mean())
    assert float(1 - exact.amax(-1).mean()) == pytest.approx(error, abs=0.03)  # calibrated; 4 SD of 8192 tokens
    assert float(1 - sharp.amax(-1).mean()) < error / 2


def test_the_error_field_is_fixed_has_unit_size_and_lowers_accuracy() -> None:
    task = chain_task(0)
    ids, z, t = noised(task, rows=128)
    wrong = PerturbedPosterior(task.exact_posterior, logit_error=1.0)
    field = wrong.error_field(z, t[:, None].expand(-1, 32))
    assert float(field.std()) == pytest.approx(1, abs=0.15) and abs(float(field.mean())) < 0.15
    assert torch.equal(wrong(z, t).mean, wrong(z, t).mean)
    assert_close(wrong(z, t).mean[3:4], wrong(z[3:4], t[3:4]).mean, rtol=1e-10, atol=1e-10)
    other = PerturbedPosterior(task.exact_posterior, logit_error=1.0, seed=1)
    assert not torch.isclose(wrong(z, t).mean, other(z, t).mean).all()
    hits = [float((d(z, t).logits.argmax(-1) == ids).double().mean()) for d in (task.denoiser, wrong)]
    assert hits[0] > hits[1] + 0.03


def test_the_mean_agrees_with_the_perturbed_tokens() -> None:
    task = chain_task(0)
    _, z, t = noised(task)
    belief = PerturbedPosterior(task.exact_posterior, 0.2, 2.0, 0.5)(z, t)
    assert_close(belief.mean, belief.logits.softmax(-1) @ task.codec.codes.double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("option", [{"forget_share": -0.1}, {"forget_share": 1.5}, {"beta": 0.0}])
def test_impossible_errors_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs forget_share in"):
        PerturbedPosterior(chain_task(0).exact_posterior, **option)
