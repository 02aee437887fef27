"""Discrete decoders: exact with feedback of committed tokens, poor without."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from textflow.noise import Noise
from textflow.oracle import (
    ORACLE_TASKS,
    DecodingTrace,
    ExcessKLScorer,
    OracleTask,
    PerturbedPosterior,
    decode_autoregressive,
    decode_masked,
)
from textflow.oracle.decoders import bisection_order, unit_variance_time

pytestmark = pytest.mark.integration

N = 64


@pytest.fixture(scope="module")
def task() -> OracleTask:
    return ORACLE_TASKS["chain"](0)


@cache
def autoregressive_trace(name: str) -> DecodingTrace:
    return decode_autoregressive(ORACLE_TASKS[name](0), noise())


def noise(n: int = N) -> Noise:
    return Noise(range(n))


def nll(task: OracleTask, ids: torch.Tensor) -> float:
    return float(task.prior.nll(ids).mean())


@pytest.mark.integration
@pytest.mark.parametrize("name", list(ORACLE_TASKS))
def test_autoregressive_texts_have_the_true_likelihood(name: str) -> None:
    task = ORACLE_TASKS[name](0)
    own = task.prior.nll(autoregressive_trace(name).ids).mean(1)
    true = task.prior.nll(task.sample(Noise(range(5000, 5000 + 1024)))).mean(1)
    error = (own.var() / len(own) + true.var() / len(true)) ** 0.5
    assert abs(float(own.mean() - true.mean())) < 4 * float(error)


def test_fed_tokens_are_final_and_part_of_the_text(task: OracleTask) -> None:
    trace = decode_masked(task, 8, noise())
    assert len(trace.fed_ids) == 8 and bool((trace.fed_ids[0] == -1).all()) and bool((trace.ids >= 0).all())
    for call, fed in enumerate(trace.fed_ids):
        assert torch.equal((fed >= 0).sum(1), torch.full((N,), 4 * call))
        assert torch.equal(fed[fed >= 0], trace.ids[fed >= 0])
        assert call == 0 or bool((fed >= 0)[trace.fed_ids[call - 1] >= 0].all())
    left = decode_autoregressive(task, noise(2)).fed_ids
    assert len(left) == 32 and torch.equal(left[5] >= 0, torch.arange(32).expand(2, -1) < 5)


@pytest.mark.integration
def test_more_calls_and_dilation_improve_masked_decoding(task: OracleTask) -> None:
    random = [nll(task, decode_masked(task, calls, noise()).ids) for calls in (1, 2, 4, 8, 32)]
    assert random == sorted(random, reverse=True) and random[0] > random[-1] + 5
    for calls, of_random in zip((2, 4, 8), random[1:4], strict=True):
        assert nll(task, decode_masked(task, calls, noise(), "dilated").ids) < of_random - 0.3
    scorer = ExcessKLScorer(task.prior, task.reference_samples(2 * N))
    assert scorer.score(decode_masked(task, 8, noise(2 * N), "dilated").ids).xkl2 < 0.03


def test_each_dilated_batch_halves_the_gaps(task: OracleTask) -> None:
    assert bisection_order(8) == [0, 4, 2, 6, 1, 3, 5, 7] and bisection_order(1) == [0]
    third = decode_masked(task, 4, noise(1), "dilated").fed_ids[2]
    assert torch.equal(third[0] >= 0, torch.arange(32) % 2 == 0)


def test_texts_are_unlikely_without_feedback_of_tokens(task: OracleTask) -> None:
    """The commit ablation: the same random numbers with expectations as feedback."""
    text = ORACLE_TASKS["text"](0)
    masked = decode_masked(text, 8, noise()), decode_masked(text, 8, noise(), soft_feedback=True)
    autoregressive = autoregressive_trace("chain"), decode_autoregressive(task, noise(), soft_feedback=True)
    for law, (hard, soft) in ((text, masked), (task, autoregressive)):
        assert nll(law, soft.ids) > nll(law, hard.ids) + 3
        assert all(bool((fed == -1).all()) for fed in soft.fed_ids) and len(soft.fed_ids) == len(hard.fed_ids)
        first = hard.fed_ids[1] >= 0  # sampled at the first call, without feedback
        assert torch.equal(soft.ids[first], hard.ids[first])


def test_a_soft_embedding_has_the_evidence_of_the_codecs_logits() -> None:
    for make in ORACLE_TASKS.values():
        task = make(0)
        e = task.codec.codes.double()[:4].mean(0).expand(1, 32, -1)
        t = torch.full((1, 32), unit_variance_time(task), dtype=torch.float64)
        loglik = task.denoiser.log_likelihood(t[..., None] * e, t)
        assert torch.allclose(loglik, task.codec.decode_logits(e), rtol=0, atol=1e-12)


def test_an_imperfect_denoiser_writes_less_likely_texts(task: OracleTask) -> None:
    perturbed = replace(task, denoiser=PerturbedPosterior(task.exact_posterior, forget_share=0.3))
    exact_nll = nll(task, autoregressive_trace("chain").ids)
    assert nll(task, decode_autoregressive(perturbed, noise()).ids) > exact_nll + 1


@pytest.mark.parametrize("soft", [False, True])
def test_a_text_does_not_depend_on_its_batch(task: OracleTask, soft: bool) -> None:
    together = decode_masked(task, 4, Noise([8, 3, 8]), soft_feedback=soft).ids
    assert torch.equal(together[1:2], decode_masked(task, 4, Noise([3]), soft_feedback=soft).ids)
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])


def test_impossible_calls_are_refused(task: OracleTask) -> None:
    with pytest.raises(ValueError, match="1 to 32"):
        decode_masked(task, 33, noise(1))
    with pytest.raises(ValueError, match="power of 2"):
        decode_masked(task, 6, noise(1), "dilated")
