"""Gates, on posteriors written by hand."""

import pytest
import torch

from textflow.escapes import (
    ConfidenceSchedule,
    Everywhere,
    Gate,
    HighConfidence,
    LowConfidence,
    MarginGate,
    TopFraction,
)
from textflow.escapes.gates import confidence
from textflow.types import Logits, PositionMask

# max p: .9, .8, .5, .34 in the first row; .6 everywhere in the second
PROBABILITIES = torch.tensor(
    [[[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.5, 0.45, 0.05], [0.34, 0.33, 0.33]], [[0.2, 0.2, 0.6]] * 4],
    dtype=torch.float64,
)
LOGITS = PROBABILITIES.log() + torch.tensor([[[3.0], [-2.0], [0.0], [40.0]]], dtype=torch.float64)


def where(gate: Gate, t: float = 0.5, logits: Logits = LOGITS) -> PositionMask:
    return gate(logits, torch.zeros(*logits.shape[:2], 5), t)


def row(gate: Gate, t: float = 0.5) -> list[bool]:
    return where(gate, t)[0].tolist()


def test_confidence_is_the_top_probability_whatever_the_offset() -> None:
    torch.testing.assert_close(confidence(LOGITS), PROBABILITIES.amax(-1), rtol=0, atol=1e-12)
    assert confidence(LOGITS.float()).dtype == torch.float64


def test_low_and_high_confidence_are_complements() -> None:
    assert row(LowConfidence(0.7)) == [False, False, True, True]
    for theta in (0.0, 0.5, 0.85, 1.0):
        assert torch.equal(where(LowConfidence(theta)), ~where(HighConfidence(theta)))
    assert where(LowConfidence(1.0)).all() and where(Everywhere()).all() and not where(LowConfidence(0.0)).any()


def test_the_margin_is_a_difference_of_logits() -> None:
    margins = [2.89, 2.07, 0.105, 0.0298]  # log(.9 / .05), log(.8 / .1), log(.5 / .45), log(.34 / .33)
    for i in range(3):
        threshold = (margins[i] + margins[i + 1]) / 2
        assert row(MarginGate(threshold)) == [j <= i for j in range(4)]
        assert row(MarginGate(threshold, "below")) == [j > i for j in range(4)]
        assert torch.equal(where(MarginGate(threshold)), where(MarginGate(threshold), logits=LOGITS.log_softmax(-1)))


def test_the_top_fraction_takes_the_most_confident_positions_and_of_equals_the_first() -> None:
    shuffled = PROBABILITIES.log()[:, [2, 0, 3, 1]]
    assert where(TopFraction(0.5), logits=shuffled).tolist() == [[False, True, False, True], [True, True, False, False]]
    for fraction, count in ((0.0, 0), (0.25, 1), (0.75, 3), (1.0, 4)):
        assert where(TopFraction(fraction)).sum(1).tolist() == [count, count]


def test_the_fraction_of_a_confidence_schedule_is_linear_in_time() -> None:
    assert [int(where(ConfidenceSchedule(), t)[0].sum()) for t in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0, 1, 2, 3, 4]
    assert [int(where(ConfidenceSchedule(0.75, 0.25), t)[0].sum()) for t in (0.0, 0.5, 1.0)] == [3, 2, 1]
    assert torch.equal(where(ConfidenceSchedule(), 0.5), where(TopFraction(0.5)))


@pytest.mark.parametrize(
    "gate",
    [LowConfidence(), HighConfidence(), MarginGate(), TopFraction(), ConfidenceSchedule()],
    ids=lambda gate: type(gate).__name__,
)
def test_a_row_does_not_depend_on_its_batch(gate: Gate) -> None:
    logits = 4 * torch.randn(6, 9, 5, generator=torch.Generator().manual_seed(0))
    together = where(gate, logits=logits)
    assert torch.equal(together, torch.cat([where(gate, logits=logits[i : i + 1]) for i in range(6)]))
    assert together.any() and not together.all(), "the gate does not depend on the row"


@pytest.mark.parametrize("make", [LowConfidence, HighConfidence, TopFraction, ConfidenceSchedule])
def test_a_threshold_outside_0_and_1_is_refused(make: type[Gate]) -> None:
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            make(wrong)
