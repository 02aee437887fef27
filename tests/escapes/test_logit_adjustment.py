"""Fair choices: what they change, and that they look at their own row alone."""

import pytest
import torch
from torch.testing import assert_close

from textflow.escapes import Commit, LogitAdjustment
from textflow.escapes.logit_adjustment import adjust_logits
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Posterior

ROWS, LENGTH, VOCAB = 3, 30, 5
CODES = torch.eye(VOCAB, dtype=torch.float64)
BELIEF = Posterior(torch.zeros(ROWS, LENGTH, VOCAB, dtype=torch.float64))


def logits() -> Logits:
    drawn = torch.randn(ROWS, LENGTH, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return drawn + torch.tensor([1.5, 0, 0, 0, 0])  # token 0 is a favourite everywhere


def embed(ids: Ids) -> Latents:
    return CODES[ids]


def chosen(strength: float, said: Logits) -> Ids:
    rows = BELIEF._replace(mean=BELIEF.mean[: len(said)])
    made = LogitAdjustment(Commit(), strength)(rows, 0.5, lambda: said, embed, Noise(range(len(said)))).committed
    assert made is not None
    return made


def test_strength_0_is_the_escape_alone() -> None:
    assert torch.equal(chosen(0.0, logits()), logits().argmax(-1))


def test_the_mean_over_positions_is_taken_off_in_log_space() -> None:
    law = logits().softmax(-1)
    wanted = law.log() - 0.3 * law.mean(1, keepdim=True).log()
    found = adjust_logits(logits(), 0.3)
    assert_close(found.softmax(-1), wanted.softmax(-1), rtol=0, atol=1e-12)
    far = adjust_logits(logits() + torch.tensor([0.0, 0, 0, 0, -1e4]), 0.3)
    assert far.isfinite().all(), "a token that is unlikely everywhere"


def test_a_favourite_is_chosen_less_often() -> None:
    counts = [int((chosen(strength, logits()) == 0).sum()) for strength in (0.0, 0.2, 0.6)]
    assert counts[0] > counts[1] > counts[2]


def test_a_row_does_not_depend_on_the_others() -> None:
    assert torch.equal(chosen(0.4, logits())[1:2], chosen(0.4, logits()[1:2]))


def test_nothing_is_asked_at_t_0_and_a_strength_of_1_is_refused() -> None:
    def refuse() -> Logits:
        raise AssertionError("tokens were asked for")

    assert LogitAdjustment()(BELIEF, 0.0, refuse, embed, Noise(range(ROWS))) is BELIEF
    with pytest.raises(ValueError, match="tau = 1.0"):
        LogitAdjustment(tau=1.0)
