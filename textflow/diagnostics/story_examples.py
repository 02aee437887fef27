"""Examples of a fit's stories: few steps, few steps that choose tokens, many steps."""

from typing import Any

import lightning as L

from textflow.data.stories import GrammarName
from textflow.diagnostics.grouping import GroupCost, fit_groups
from textflow.diagnostics.stories import agreements, grammar_of_fit, require_texts
from textflow.escapes import Commit, Escape, HighConfidence, NoEscape
from textflow.models.generation import TextGenerator, drawn_in_groups, sampled_by
from textflow.models.generator import Generator
from textflow.samplers import Ancestral, Euler, Sampler
from textflow.training.eval_mode import temporary_eval_mode
from textflow.training.interrupt import was_interrupted

NUM_FITTED = 48  # texts that groups are fitted on
MAJORITY_COMMIT = Ancestral(1.0, committed_noise_correlation=0.0), Commit(gate=HighConfidence(0.5))
EXAMPLES: dict[str, tuple[int, Sampler, Escape]] = {
    "4 steps of the ODE": (4, Euler(), NoEscape()),
    "4 steps, majority commit": (4, *MAJORITY_COMMIT),
    "32 steps, majority commit": (32, *MAJORITY_COMMIT),
}


class StoryExamples(L.Callback):
    """Print at the end of a fit, for each of EXAMPLES, one text and the shares of what holds in `num_samples`.

    Args:
        grammar: sentences, stories or tales; default: that of the fit's text.
        num_samples: number of texts, at least 1.
        seed: random seed for sampling.
        groups: number of groups of positions that are fitted and drawn one after another (the order Grouped), for one
            more example; 0 is none. The network has to take a time for each position.
    """

    def __init__(
        self, grammar: GrammarName | None = None, num_samples: int = 64, seed: int = 0, groups: int = 0
    ) -> None:
        if num_samples < 1 or groups < 0:
            raise ValueError(f"StoryExamples got num_samples={num_samples}, groups={groups}; needs at least 1 and 0")
        self.grammar, self.num_samples, self.seed, self.groups = grammar, num_samples, seed, groups

    def on_fit_end(self, trainer: L.Trainer, module: Any) -> None:
        """Sample, and print on the first process; an interrupted fit has no examples."""
        if was_interrupted(trainer) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        model = require_texts(module.model)
        lines = [self.example(model, name) for name in EXAMPLES] + ([self.in_groups(model)] if self.groups else [])
        if trainer.is_global_zero:
            print(f"\nValid stories, and agreements that hold (n = {self.num_samples}), with one text:")
            print("\n".join(lines), flush=True)

    def example(self, model: TextGenerator, name: str) -> str:
        """A line of one sampler; the model's own is restored afterwards."""
        steps, sampler, escape = EXAMPLES[name]
        with sampled_by(model, sampler, escape):
            return self.sample(model, name, steps)

    def in_groups(self, model: TextGenerator) -> str:
        """The line of the fitted groups."""
        if not isinstance(model, Generator):
            raise ValueError(
                f"groups of positions are drawn by a Generator, not by a {type(model).__name__}; set groups to 0"
            )
        with temporary_eval_mode(model):
            groups = fit_groups(GroupCost(model, model.data_batch(NUM_FITTED, held_out=True).ids), self.groups)
        with drawn_in_groups(model, groups):
            return self.sample(model, f"{self.groups} fitted groups", 1)

    def sample(self, model: TextGenerator, name: str, steps: int) -> str:
        """A line of the model's present sampler."""
        with temporary_eval_mode(model):
            texts = model.generate(self.num_samples, num_steps=steps, seed=self.seed)
        shares = agreements(grammar_of_fit(self.grammar, model, type(self).__name__), texts)
        return f"  {name + ':':<26} {shares['valid']:4.0%} valid, {shares['bound']:4.0%} hold: {texts[0]}"
