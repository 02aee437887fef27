"""Discrete decoders: exact with feedback of committed tokens, poor without."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from textflow.noise import Noise
from textflow.oracle import (
    ORACLE_TASKS,
    ExcessKLScorer,
    OracleTask,
    PerturbedPosterior,
    decode_autoregressive,
    decode_masked,
)
from textflow.oracle.decoders import bisection_order, unit_variance_time

N = 128


@pytest.fixture(scope="module")
def world() -> OracleTask:
    return ORACLE_TASKS["chain"](0)


def noise(n: int = N) -> Noise:
    return Noise(range(n))


def nll(world: OracleTask, ids: torch.Tensor) -> float:
    return float(world.prior.nll(ids).mean())


@pytest.mark.parametrize("name", list(ORACLE_TASKS))
def test_token_by_token_is_the_truth(name: str) -> None:
    world = ORACLE_TASKS[name](0)
    own = world.prior.nll(decode_autoregressive(world, noise()).ids).mean(1)
    true = world.prior.nll(world.sample(Noise(range(5000, 5000 + 1024)))).mean(1)
    error = (own.var() / len(own) + true.var() / len(true)) ** 0.5
    assert abs(float(own.mean() - true.mean())) < 4 * float(error)


def test_what_is_fed_stands_and_is_what_is_written(world: OracleTask) -> None:
    reading = decode_masked(world, 8, noise())
    assert len(reading.fed_ids) == 8 and bool((reading.fed_ids[0] == -1).all()) and bool((reading.ids >= 0).all())
    for call, fed in enumerate(reading.fed_ids):
        assert torch.equal((fed >= 0).sum(1), torch.full((N,), 4 * call))
        assert torch.equal(fed[fed >= 0], reading.ids[fed >= 0])
        assert call == 0 or bool((fed >= 0)[reading.fed_ids[call - 1] >= 0].all())
    left = decode_autoregressive(world, noise(2)).fed_ids
    assert len(left) == 32 and torch.equal(left[5] >= 0, torch.arange(32).expand(2, -1) < 5)


def test_batches_trade_calls_for_truth_and_dilation_helps(world: OracleTask) -> None:
    random = [nll(world, decode_masked(world, calls, noise()).ids) for calls in (1, 2, 4, 8, 32)]
    assert random == sorted(random, reverse=True) and random[0] > random[-1] + 5
    for calls, of_random in zip((2, 4, 8), random[1:4], strict=True):
        assert nll(world, decode_masked(world, calls, noise(), "dilated").ids) < of_random - 0.3
    yard = ExcessKLScorer(world.prior, world.reference_samples(N))
    assert yard.score(decode_masked(world, 8, noise(), "dilated").ids).xkl2 < 0.03


def test_dilated_batches_halve_the_gaps(world: OracleTask) -> None:
    assert bisection_order(8) == [0, 4, 2, 6, 1, 3, 5, 7] and bisection_order(1) == [0]
    third = decode_masked(world, 4, noise(1), "dilated").fed_ids[2]
    assert torch.equal(third[0] >= 0, torch.arange(32) % 2 == 0)


@pytest.mark.parametrize("name", ["chain", "text"])
def test_without_feedback_of_choices_the_text_falls_apart(name: str) -> None:
    """The commit ablation: the same draws, expectations fed instead."""
    world = ORACLE_TASKS[name](0)
    for reader in (partial(decode_masked, world, 8), partial(decode_autoregressive, world)):
        hard, soft = reader(noise()), reader(noise(), soft_feedback=True)
        assert nll(world, soft.ids) > nll(world, hard.ids) + 3
        assert all(bool((fed == -1).all()) for fed in soft.fed_ids) and len(soft.fed_ids) == len(hard.fed_ids)
        first = hard.fed_ids[1] >= 0  # drawn at the first call, before anything was fed
        assert torch.equal(soft.ids[first], hard.ids[first])


def test_a_soft_embedding_is_read_as_the_codec_reads_it() -> None:
    for make in ORACLE_TASKS.values():
        world = make(0)
        e = world.codec.codes.double()[:4].mean(0).expand(1, 32, -1)
        t = torch.full((1, 32), unit_variance_time(world), dtype=torch.float64)
        loglik = world.denoiser.log_likelihood(t[..., None] * e, t)
        assert torch.allclose(loglik, world.codec.decode_logits(e), rtol=0, atol=1e-12)


def test_an_imperfect_reader_is_worse(world: OracleTask) -> None:
    spoilt = replace(world, denoiser=PerturbedPosterior(world.exact_posterior, forget_share=0.3))
    assert (
        nll(world, decode_autoregressive(spoilt, noise()).ids)
        > nll(world, decode_autoregressive(world, noise()).ids) + 1
    )


@pytest.mark.parametrize("soft", [False, True])
def test_a_text_does_not_depend_on_its_company(world: OracleTask, soft: bool) -> None:
    together = decode_masked(world, 4, Noise([8, 3, 8]), soft_feedback=soft).ids
    assert torch.equal(together[1:2], decode_masked(world, 4, Noise([3]), soft_feedback=soft).ids)
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])


def test_impossible_calls_are_refused(world: OracleTask) -> None:
    with pytest.raises(ValueError, match="1 to 32"):
        decode_masked(world, 33, noise(1))
    with pytest.raises(ValueError, match="power of 2"):
        decode_masked(world, 6, noise(1), "dilated")
