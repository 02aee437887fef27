"""Agreement of generated stories: shares, by kind, and curves of a fit."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.data.test_stories import STORY
from textflow.diagnostics import StoryAgreement, StoryCurves

WRONG = STORY.replace("took the old", "took the new")


def test_shares_are_those_of_texts_and_of_agreements() -> None:
    metric = StoryAgreement("tales")
    metric.update([])
    assert math.isnan(metric.compute()["valid"])
    metric.update([STORY, WRONG])
    metric.update(["No story at all.", ""])
    shares = metric.compute()
    assert (shares["valid"], shares["in_grammar"], shares["adjectives"], shares["pronouns"]) == (0.25, 0.5, 0.5, 1.0)
    assert shares["bound"] == pytest.approx(19 / 20)


def test_curves_are_logged_at_each_number_of_steps() -> None:
    logged: dict[str, float] = {}

    class Model(torch.nn.Module):
        _trainer, eval_seconds = None, 0.0

        def generate(self, num_samples: int, num_steps: int, seed: int) -> list[str]:
            return [STORY if i < num_steps else WRONG for i in range(num_samples)]

    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update(values))
    trainer = SimpleNamespace(is_global_zero=True, loggers=[logger], global_step=5)
    StoryCurves("tales", num_samples=8, steps=(2, 8)).act(trainer, Model())
    assert logged["stories/valid/2"] == 0.25 and logged["stories/valid/8"] == 1.0
    logged.clear()
    StoryCurves("sentences", num_samples=2, steps=(2,)).act(trainer, Model())
    assert logged == {"stories/valid/2": 0.0, "stories/in_grammar/2": 0.0}, "no agreement was counted"
    with pytest.raises(ValueError, match="at least 1"):
        StoryCurves(steps=(0,))
