"""Margins of hand-made runs, and the early exit against the sampler's rule."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.user_errors import refused
from textflow.diagnostics.margins import exit_calls, fit_threshold, sustained_margin, token_margins
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import EarlyExit, Trace
from textflow.types import Posterior


def make_trace(logits: Tensor, means: Tensor | None = None, with_logits: bool = False) -> Trace:
    """A trace of K calls with these logits [K, B, L, V]."""
    K, B, L, _ = logits.shape
    means = torch.zeros(K, B, L, 2, dtype=torch.float64) if means is None else means
    beliefs = [Posterior(mean, each if with_logits else None) for mean, each in zip(means, logits, strict=True)]
    return Trace(means[-1], [k / K for k in range(K)], list(means), beliefs)


def logits_of(choices: list[list[int]], margin: float = 2.0) -> Tensor:
    """Logits of one row [K, 1, L, 3] whose argmax is these tokens by this margin."""
    return margin * torch.nn.functional.one_hot(torch.tensor(choices), 3).double()[:, None]


def test_a_token_is_settled_from_the_call_after_which_its_argmax_stays_final() -> None:
    """By position: always right, wrong once in the middle, right at last only, never."""
    logits = logits_of([[0, 1, 2, 2], [0, 0, 2, 2], [0, 1, 2, 2], [0, 1, 0, 2]])
    result = token_margins(make_trace(logits), list(logits), final_ids=torch.tensor([[0, 1, 0, 1]]))
    assert result.settling_call.tolist() == [[0, 2, 3, 4]]
    assert result.agreement.sum((0, 1)).tolist() == [4, 3, 1, 0]
    default = token_margins(make_trace(logits), list(logits))
    assert default.settling_call.tolist() == [[0, 2, 3, 0]] and default.agreement[-1].all()


def test_margins_are_differences_of_log_probabilities() -> None:
    logits = 5 * Noise(range(4)).normal(3, 6, 9).double().transpose(0, 1)  # [K = 3, 4, 6, 9]
    result = token_margins(make_trace(logits, with_logits=True))
    top = logits.log_softmax(-1).sort(descending=True).values
    assert_close(result.margin, top[..., 0] - top[..., 1], rtol=1e-9, atol=1e-12)
    assert torch.equal(result.argmax_ids, logits.argmax(-1)) and result.margin.dtype == torch.float64


def test_beliefs_readouts_and_lists_of_logits_agree() -> None:
    means = Noise(range(2)).normal(3, 5, 4).double().transpose(0, 1)
    codes = Noise([9]).normal(7, 4)[0].double()
    logits = means @ codes.T
    results = [
        token_margins(make_trace(logits, means), list(logits)),
        token_margins(make_trace(logits, means), lambda x: x @ codes.T),
        token_margins(make_trace(logits, means, with_logits=True)),
    ]
    assert all(torch.equal(results[0].margin, each.margin) for each in results[1:])
    assert_close(results[0].mean_shift[1], (means[2] - means[1]).square().sum(-1).sqrt(), rtol=1e-12, atol=0)
    assert results[0].mean_shift.shape == (2, 2, 5) and results[0].times == [0, 1 / 3, 2 / 3]
    refused("have no logits", token_margins, make_trace(logits, means))
    refused("all 3 calls of the trace, not of 2", token_margins, make_trace(logits, means), list(logits[:2]))


def test_the_summary_ignores_padding_and_covers_latents_that_are_not_one_per_token() -> None:
    """At padding the margin is 0, tokens disagree and means move."""
    logits = logits_of([[0, 1, 0], [1, 1, 1]], margin=3.0)
    logits[:, :, 2] = 0.0
    means = torch.zeros(2, 1, 3, 2, dtype=torch.float64)
    means[1, 0, :, 0] = torch.tensor([1.0, 3.0, 100.0])
    result = token_margins(
        make_trace(logits, means), list(logits), torch.tensor([[1, 1, 2]]), torch.tensor([[True, True, False]])
    )
    summary = {name: value.tolist() for name, value in result.summary().items()}
    expected = {"mean": [3, 3], "p10": [3, 3], "agreement": [0.5, 1], "settled_fraction": [0.5, 1], "mean_shift": [2]}
    assert summary == {name: pytest.approx(value) for name, value in expected.items()}
    logits = logits_of([[0, 1, 0], [1, 1, 1]])
    result = token_margins(make_trace(logits, torch.stack([torch.zeros(1, 2, 4), torch.ones(1, 2, 4)])), list(logits))
    assert_close(result.summary()["mean_shift"], torch.tensor([2.0]).double(), rtol=1e-12, atol=0)


def rollouts(B: int = 64, K: int = 12, L: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Margins that grow, each row at its own speed, and tokens that are wrong with probability exp(-margin) / 2."""
    noise = Noise(range(seed, seed + B))
    speed = 0.2 + noise.uniform(1, 1)
    margins = speed * torch.arange(K)[:, None] * (0.5 + noise.uniform(1, L)) + noise.uniform(K, L)
    agreement = noise.uniform(K, L) > (-margins).exp() / 2
    agreement[:, -1] = True
    return margins.transpose(0, 1), agreement.transpose(0, 1)


def exit_error(margins: Tensor, agreement: Tensor, tau: float) -> float:
    """Share of tokens that differ from the full run's when rows exit at margin tau."""
    stop = exit_calls(margins, tau, torch.ones_like(agreement[0]))
    right = agreement[stop, torch.arange(len(stop))] | (stop == len(margins) - 1)[:, None]
    return float((~right).double().mean())


def test_exit_calls_match_early_exit() -> None:
    margins, _ = rollouts()
    logits = torch.stack([margins, torch.zeros_like(margins)], -1)
    for tau, patience, share in ((1.0, 2, 0.1), (2.5, 1, 0.3), (1.5, 3, 0.0), (99.0, 2, 0.1)):
        rule = EarlyExit(tau, share, patience)
        active, state = list[int](), None
        for k in range(len(margins)):
            rows = torch.ones(64).bool() if state is None else state.streak < patience
            active.append(int(rows.sum()))
            read = lambda z, t, belief, k=k, rows=rows: logits[k][rows]  # noqa: E731
            denoise = lambda z, t, *_: Posterior(z)  # noqa: E731
            state = rule(denoise, read, LinearPath(), torch.zeros(64, 16, 2), k / 12, state=state).carry
        result = exit_calls(margins, tau, torch.ones(64, 16).bool(), share, patience)
        assert active == [int((result >= k).sum()) for k in range(len(margins))]
        assert tau > 50 or 0 < float(result.double().mean()) < 11


def test_the_threshold_is_the_smallest_within_the_tolerance() -> None:
    """No smaller threshold of a search over many is within it."""
    margins, agreement = rollouts()
    result = fit_threshold(margins, agreement, tolerance=0.005)
    errors = [(tau, exit_error(margins, agreement, tau)) for tau in torch.linspace(0, 8, 100).tolist()]
    at, below = (exit_error(margins, agreement, tau) for tau in (result.margin, result.margin - 1e-9))
    assert result.disagreement == pytest.approx(at, abs=1e-12) and result.disagreement <= 0.005
    assert below == at or below > 0.005
    assert all(error <= 0.005 for tau, error in errors if tau >= result.margin)
    assert max(error for tau, error in errors if tau < result.margin) > 0.005
    stop = exit_calls(margins, result.margin, torch.ones(64, 16).bool())
    assert result.mean_calls == pytest.approx(1 + float(stop.double().mean()))
    assert 3 < result.mean_calls < 12 == result.full_calls
    assert result.early_exit() == EarlyExit(result.margin, 0.1, 2)


def test_the_tolerance_holds_on_other_rollouts() -> None:
    """Fitted at .5 %; 10 SE of 16384 tokens whose errors come in rows allow .8 %."""
    result = fit_threshold(*rollouts(256), tolerance=0.005)
    assert 0.001 < exit_error(*rollouts(1024, seed=5000), result.margin) < 0.008


def test_rows_that_never_agree_never_exit_and_rows_that_always_agree_exit_first() -> None:
    margins, agreement = rollouts()
    never = fit_threshold(margins, torch.zeros_like(agreement))
    assert (never.margin, never.disagreement, never.mean_calls) == (math.inf, 0, 12)
    always = fit_threshold(margins, torch.ones_like(agreement))
    assert always.mean_calls == 3, "two calls after t = 0, the earliest exit"
    assert fit_threshold(margins + torch.inf, torch.zeros_like(agreement)).mean_calls == 12


def test_padding_does_not_change_the_threshold() -> None:
    margins, agreement = rollouts()
    mask = (torch.arange(16) < 10).expand(64, 16)
    dirty, agreement = margins.masked_fill(~mask, -5.0), agreement & mask
    a, b = fit_threshold(dirty, agreement, mask), fit_threshold(margins[..., :10], agreement[..., :10])
    assert (a.margin, a.disagreement, a.mean_calls, a.size) == (b.margin, b.disagreement, b.mean_calls, b.size)
    assert a.size.num_positions == 640 and a.size.num_sequences == 64
    empty = mask.clone()
    empty[0] = False
    assert sustained_margin(dirty, empty, 0.1, 2, 1)[:, 0].isneginf().all()
    assert fit_threshold(dirty, agreement, empty).size.num_sequences == 63
