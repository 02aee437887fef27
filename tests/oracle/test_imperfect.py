"""Imperfect denoisers: each fault alone, and none at all."""

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.oracle import Imperfect, World
from textflow.oracle.imperfect import underfit
from textflow.oracle.worlds import chain, text, topic
from textflow.types import Latents


def seen(world: World, t: float = 0.4, rows: int = 64) -> tuple[torch.Tensor, Latents, torch.Tensor]:
    ids = world.draw(Noise(range(rows)))
    x = world.codec.latents(ids, Noise(range(500, 500 + rows))).double()
    z = world.path.mix(x, Noise(range(900, 900 + rows)).normal_like(x), t)
    return ids, z, torch.full((rows,), t).double()


@pytest.mark.parametrize("make", [chain, text, topic])
def test_without_faults_it_is_the_exact_one_to_the_bit(make) -> None:
    _, z, t = seen(make(0))
    exact, same = make(0).denoiser, Imperfect(make(0).exact)
    assert torch.equal(same(z, t).mean, exact(z, t).mean) and torch.equal(same(z, t).logits, exact(z, t).logits)
    nearly = Imperfect(make(0).exact, beta=1 + 1e-12)  # the same through the formula
    assert_close(nearly(z, t).mean, exact(z, t).mean, rtol=0, atol=1e-9)


def test_forgetting_all_leaves_each_token_its_own_evidence() -> None:
    world = chain(0)
    _, z, t = seen(world)
    loglik = world.denoiser.evidence(z, t[:, None].expand(-1, 32))
    alone = (loglik + world.prior.initial.log()).softmax(-1)
    assert_close(Imperfect(world.exact, lam=1.0)(z, t).logits.softmax(-1), alone, rtol=0, atol=1e-12)


def test_forgetting_costs_nll_in_proportion() -> None:
    world = chain(0)
    ids = world.draw(Noise(range(64)))
    nll = [float(underfit(world.prior, lam).nll(ids).mean()) for lam in (0.0, 0.3, 1.0)]
    assert nll[0] < nll[1] - 0.1 < nll[2] - 1
    assert nll[0] == float(world.prior.nll(ids).mean())


def test_sharpening_changes_how_sure_it_is_but_not_of_what() -> None:
    world = chain(0)
    ids, z, t = seen(world, rows=256)
    exact, sharp = (d(z, t).logits.softmax(-1) for d in (world.denoiser, Imperfect(world.exact, beta=3.0)))
    assert torch.equal(exact.argmax(-1), sharp.argmax(-1))
    error = float((exact.argmax(-1) != ids).double().mean())
    assert float(1 - exact.amax(-1).mean()) == pytest.approx(error, abs=0.03)  # calibrated; 4 SD of 8192 tokens
    assert float(1 - sharp.amax(-1).mean()) < error / 2


def test_the_error_field_is_fixed_of_unit_size_and_costs_accuracy() -> None:
    world = chain(0)
    ids, z, t = seen(world, rows=128)
    wrong = Imperfect(world.exact, error=1.0)
    field = wrong.field(z, t[:, None].expand(-1, 32))
    assert float(field.std()) == pytest.approx(1, abs=0.15) and abs(float(field.mean())) < 0.15
    assert torch.equal(wrong(z, t).mean, wrong(z, t).mean)
    assert_close(wrong(z, t).mean[3:4], wrong(z[3:4], t[3:4]).mean, rtol=1e-10, atol=1e-10)
    assert not torch.isclose(wrong(z, t).mean, Imperfect(world.exact, error=1.0, seed=1)(z, t).mean).all()
    hits = [float((d(z, t).logits.argmax(-1) == ids).double().mean()) for d in (world.denoiser, wrong)]
    assert hits[0] > hits[1] + 0.03


def test_the_mean_belongs_to_the_spoilt_tokens() -> None:
    world = chain(0)
    _, z, t = seen(world)
    belief = Imperfect(world.exact, 0.2, 2.0, 0.5)(z, t)
    assert_close(belief.mean, belief.logits.softmax(-1) @ world.codec.codes.double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("fault", [{"lam": -0.1}, {"lam": 1.5}, {"beta": 0.0}])
def test_impossible_faults_are_refused(fault: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs lam in"):
        Imperfect(chain(0).exact, **fault)
