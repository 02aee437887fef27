"""Agreements of generated stories, as a metric and as curves of a fit."""

from collections import Counter
from collections.abc import Sequence
from math import isnan
from typing import Any

import lightning as L
from torch import Tensor, tensor
from torchmetrics import Metric

from textflow.data import Stories
from textflow.data.stories import GRAMMARS, GrammarName
from textflow.models.generation import TextGenerator
from textflow.training.callbacks.periodic import PeriodicCallback
from textflow.training.eval_mode import temporary_eval_mode

KINDS = ("articles", "pronouns", "names", "persons", "jobs", "objects", "adjectives", "places")


class StoryAgreement(Metric):
    """Shares of generated stories and of their agreements that hold [ours].

    `valid` is the share of texts of the language; `in_grammar` of texts that some order fits whatever its agreements;
    `bound` is the share of agreements that hold in those, and each kind (pronouns, objects, ...) likewise, NaN if there
    is none.

    Args:
        grammar: sentences, stories or tales, as the source `Stories` has it.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, grammar: GrammarName = "stories") -> None:
        super().__init__()
        self.grammar = GRAMMARS[grammar]
        self.add_state("counts", tensor([0] * (3 + 2 * len(KINDS))), dist_reduce_fx="sum")

    def update(self, texts: Sequence[str]) -> None:
        """Add generated texts."""
        checks = [self.grammar.check(text) for text in texts]
        correct, total = Counter[str](), Counter[str]()
        for check in checks:
            correct.update(check.correct)
            total.update(check.total)
        heads = [len(checks), sum(c.in_grammar for c in checks), sum(c.valid for c in checks)]
        self.counts += tensor([*heads, *(correct[k] for k in KINDS), *(total[k] for k in KINDS)]).to(self.counts)

    def compute(self) -> dict[str, float]:
        """Shares by name."""
        (n, in_grammar, valid), agreements = self.counts[:3].tolist(), self.counts[3:].tolist()
        correct, total = agreements[: len(KINDS)], agreements[len(KINDS) :]
        shares = {
            "valid": share(valid, n),
            "in_grammar": share(in_grammar, n),
            "bound": share(sum(correct), sum(total)),
        }
        return shares | {kind: share(a, b) for kind, a, b in zip(KINDS, correct, total, strict=True)}


def share(part: int, whole: int) -> float:
    """part / whole; NaN of nothing."""
    return part / whole if whole else float("nan")


def agreements(grammar: GrammarName, texts: Sequence[str]) -> dict[str, float]:
    """`StoryAgreement` of some texts."""
    metric = StoryAgreement(grammar)
    metric.update(texts)
    return metric.compute()


def require_texts(model: object) -> TextGenerator:
    """Return the model if it generates texts; raise an error otherwise."""
    if not isinstance(model, TextGenerator):
        raise ValueError(f"a {type(model).__name__} generates no texts, so it has no stories to check; leave these out")
    return model


def grammar_of_fit(grammar: GrammarName | None, model: TextGenerator, callback: str) -> GrammarName:
    """The grammar that a callback, given by its name, is given, or else that of the fit's text."""
    if grammar is not None:
        return grammar
    source = None if model.data is None else model.data.source
    if not isinstance(source, Stories):
        raise ValueError(
            f"{callback} checks texts of the source Stories, and this fit's are of {type(source).__name__}; leave the "
            "callback out, or give it a grammar"
        )
    return source.grammar


class StoryCurves(PeriodicCallback):
    """Log the agreements of texts that the model samples, as stories/NAME/K for each number of steps K; a share of
    nothing is left out.

    Args:
        grammar: sentences, stories or tales; default: that of the fit's text.
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_samples: number of texts for each number of steps.
        steps: numbers of sampling steps.
        seed: random seed for sampling.
    """

    def __init__(
        self,
        grammar: GrammarName | None = None,
        every_n_steps: int = 200,
        num_samples: int = 64,
        steps: tuple[int, ...] = (4, 32),
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_steps)
        if num_samples < 1 or not steps or min(steps) < 1:
            raise ValueError(f"StoryCurves got {num_samples} samples at {steps} steps; both need to be at least 1")
        self.grammar, self.num_samples = grammar, num_samples
        self.steps, self.seed = tuple(steps), seed

    def act(self, trainer: L.Trainer, model: Any) -> None:
        """Sample and log."""
        model, values = require_texts(model), dict[str, float]()
        grammar = grammar_of_fit(self.grammar, model, type(self).__name__)
        for steps in self.steps:
            with temporary_eval_mode(model):
                texts = model.generate(self.num_samples, num_steps=steps, seed=self.seed)
            shares = {name: value for name, value in agreements(grammar, texts).items() if not isnan(value)}
            values |= {f"stories/{name}/{steps}": value for name, value in shares.items()}
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(values, trainer.global_step - 1)
