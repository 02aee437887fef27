"""Rows of which some positions are known: at the clean end of time, while the others are noise or at one time."""

import pytest
import torch

from textflow.objectives import CrossEntropy, LangFlowObjective
from textflow.schedules import Gumbel, Uniform

ROWS, LENGTH = 4000, 12


def test_known_positions_are_clean_and_the_others_of_their_row_share_a_time() -> None:
    torch.manual_seed(0)
    t = CrossEntropy(Uniform(), known_prob=1.0).sample_draws(torch.zeros(ROWS, LENGTH, 1)).t
    known = t == 1
    others = t.masked_fill(known, 0).amax(1)
    assert torch.equal(t, torch.where(known, 1.0, others[:, None]))
    unknown = ~known.all(1)
    assert float((others[unknown] == 0).float().mean()) == pytest.approx(0.7, abs=0.03)
    shares = known.float().mean(1).sort().values  # of a uniform law, but for the twelfth that a position is
    torch.testing.assert_close(shares, torch.linspace(0, 1, ROWS), atol=0.1, rtol=0)


def test_the_other_rows_keep_their_times() -> None:
    torch.manual_seed(0)
    times = LangFlowObjective(Gumbel(1.3, cutoff=1e-3), known_prob=0.25).sample_draws(torch.zeros(ROWS, LENGTH, 1)).t
    one_time = (times == times[:, :1]).all(1)
    assert float(one_time.float().mean()) == pytest.approx(
        0.75 + 0.25 * 2 / (LENGTH + 1), abs=0.03
    )  # all or none known


def test_a_probability_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="known_prob = 1.5: CrossEntropy needs a probability in"):
        CrossEntropy(known_prob=1.5)
