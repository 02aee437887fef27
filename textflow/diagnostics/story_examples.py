"""Three examples of a fit's stories: few steps, few steps with an escape, many steps."""

from typing import Any

import lightning as L

from textflow.data.stories import GrammarName
from textflow.diagnostics.stories import agreements
from textflow.escapes import Commit, Escape, NoEscape
from textflow.models.generation import sampled_by
from textflow.samplers import Ancestral, Euler, Sampler
from textflow.training.eval_mode import temporary_eval_mode

EXAMPLES: dict[str, tuple[int, Sampler, Escape]] = {
    "4 steps of the ODE": (4, Euler(), NoEscape()),
    "4 steps, mode commit": (4, Ancestral(), Commit()),
    "32 steps, mode commit": (32, Ancestral(), Commit()),
}


class StoryExamples(L.Callback):
    """Print at the end of a fit, for each of EXAMPLES, one text and the shares of what holds in `num_samples`.

    Args:
        grammar: sentences, stories or tales, as the source `Stories` has it.
        num_samples: number of texts, at least 1.
        seed: random seed for sampling.
    """

    def __init__(self, grammar: GrammarName = "stories", num_samples: int = 64, seed: int = 0) -> None:
        if num_samples < 1:
            raise ValueError(f"StoryExamples got num_samples={num_samples}; it needs at least 1")
        self.grammar, self.num_samples, self.seed = grammar, num_samples, seed

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Sample, and print on the first process; an interrupted fit has no examples."""
        interrupted = any(getattr(callback, "stopped", False) for callback in trainer.callbacks)
        if interrupted or trainer.fast_dev_run:
            return
        lines = [self.example(module, name) for name in EXAMPLES]
        if trainer.is_global_zero:
            print(f"\nValid stories, and agreements that hold (n = {self.num_samples}), with one text:")
            print("\n".join(lines), flush=True)

    def example(self, module: Any, name: str) -> str:
        """A line of one sampler; the model's own is restored afterwards."""
        steps, sampler, escape = EXAMPLES[name]
        with sampled_by(module, sampler, escape), temporary_eval_mode(module):
            texts = module.generate(self.num_samples, num_steps=steps, seed=self.seed)
        shares = agreements(self.grammar, texts)
        return f"  {name + ':':<22} {shares['valid']:4.0%} valid, {shares['bound']:4.0%} hold: {texts[0]}"
