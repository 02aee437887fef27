"""Logit adjustment: frequent tokens are chosen less often, each row by itself."""

import pytest
import torch
from torch.testing import assert_close

from textflow.escapes import Commit, LogitAdjustment
from textflow.escapes.logit_adjustment import adjust_logits
from textflow.noise import Noise
from textflow.types import Ids, Logits, Posterior

ROWS, LENGTH, VOCAB = 3, 30, 5
CODES = torch.eye(VOCAB, dtype=torch.float64)
BELIEF = Posterior(torch.zeros(ROWS, LENGTH, VOCAB, dtype=torch.float64))


def logits() -> Logits:
    random = torch.randn(ROWS, LENGTH, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return random + torch.tensor([1.5, 0, 0, 0, 0])  # token 0 is frequent everywhere


def committed(tau: float, logits: Logits) -> Ids:
    rows, noise = BELIEF._replace(mean=BELIEF.mean[: len(logits)]), Noise(range(len(logits)))
    ids = LogitAdjustment(Commit(), tau)(rows, 0.5, lambda: logits, lambda ids: CODES[ids], noise).committed
    assert ids is not None
    return ids


def test_tau_0_is_the_escape_alone() -> None:
    assert torch.equal(committed(0.0, logits()), logits().argmax(-1))


def test_the_mean_over_positions_is_subtracted_in_log_space() -> None:
    p = logits().softmax(-1)
    expected = p.log() - 0.3 * p.mean(1, keepdim=True).log()
    assert_close(adjust_logits(logits(), 0.3).softmax(-1), expected.softmax(-1), rtol=0, atol=1e-12)
    far = adjust_logits(logits() + torch.tensor([0.0, 0, 0, 0, -1e4]), 0.3)
    assert far.isfinite().all(), "a token that is unlikely everywhere"


def test_a_frequent_token_is_chosen_less_often() -> None:
    counts = [int((committed(tau, logits()) == 0).sum()) for tau in (0.0, 0.2, 0.6)]
    assert counts[0] > counts[1] > counts[2]


def test_a_row_does_not_depend_on_the_others() -> None:
    assert torch.equal(committed(0.4, logits())[1:2], committed(0.4, logits()[1:2]))


def test_tau_1_is_refused() -> None:
    with pytest.raises(ValueError, match="tau = 1.0"):
        LogitAdjustment(tau=1.0)
