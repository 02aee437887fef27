"""Agreement of generated stories: shares, by kind, and curves of a fit."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import lightning as L
import pytest
import torch

from tests.helpers.story_grammars import STORY
from textflow.data import Stories
from textflow.diagnostics import StoryAgreement, StoryCurves, StoryExamples
from textflow.diagnostics.stories import grammar_of_fit
from textflow.models.generation import TextGenerator

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

    class Model(TextGenerator):
        losses = sample_ids = complete = None

        def generate(self, num_samples: int, num_steps: int, seed: int) -> list[str]:
            return [STORY if i < num_steps else WRONG for i in range(num_samples)]

    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update(values))
    trainer = Mock(spec=L.Trainer, is_global_zero=True, loggers=[logger], global_step=5)
    StoryCurves("tales", num_samples=8, steps=(2, 8)).act(trainer, Model())
    assert logged["stories/valid/2"] == 0.25 and logged["stories/valid/8"] == 1.0
    logged.clear()
    StoryCurves("sentences", num_samples=2, steps=(2,)).act(trainer, Model())
    assert logged == {"stories/valid/2": 0.0, "stories/in_grammar/2": 0.0}, "no agreement was counted"
    with pytest.raises(ValueError, match="at least 1"):
        StoryCurves(steps=(0,))


def test_the_grammar_is_that_of_the_fits_text() -> None:
    class Model(TextGenerator):
        losses = sample_ids = complete = None

    model = Model()
    assert grammar_of_fit("tales", model, "StoryCurves") == "tales"
    with pytest.raises(ValueError, match="StoryCurves checks texts of the source Stories, .* NoneType"):
        grammar_of_fit(None, model, "StoryCurves")
    model.data = SimpleNamespace(source=Stories("sentences"))
    assert grammar_of_fit(None, model, "StoryCurves") == "sentences"


def test_examples_are_printed_at_the_end_and_the_sampler_is_restored(capsys: pytest.CaptureFixture[str]) -> None:
    class Model(TextGenerator):
        losses = sample_ids = complete = None
        sampler = "own"

        def generate(self, num_samples: int, num_steps: int, seed: int) -> list[str]:
            assert self.sampler != "own" and self.escape is not escape
            return [STORY if i < num_steps else WRONG for i in range(num_samples)]

    model, callback, escape = Model(), StoryExamples("tales", num_samples=8), torch.nn.Identity()
    model.escape = escape
    for stopped in (True, False):
        trainer = Mock(spec=L.Trainer, is_global_zero=True, fast_dev_run=False)
        trainer.callbacks = [SimpleNamespace(stopped=stopped)]
        callback.on_fit_end(trainer, SimpleNamespace(model=model))
        assert model.sampler == "own" and model.escape is escape
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 4 and "50% valid,  95% hold: Ruth the baker" in lines[1] and "100% valid" in lines[3]
    with pytest.raises(ValueError, match="at least 1"):
        StoryExamples(num_samples=0)
    with pytest.raises(ValueError, match="a LightningModule generates no texts"):
        callback.on_fit_end(trainer, SimpleNamespace(model=L.LightningModule()))
    with pytest.raises(ValueError, match="drawn by a Generator, not by a Model; set groups to 0"):
        callback.in_groups(model)
