"""Figure inputs: a generator with real text, from an oracle task or a trained run."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from textflow.diagnostics.base import DiagnosticInputs, diagnostic_inputs
from textflow.diagnostics.residual import TerminalPosterior, terminal_posterior
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS, Chain, ExactPosterior, GaussianAtoms, OracleTask
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch, Latents

from ..oracle.methods import fresh_seed

TUNED_GRID = LogitNormal(-0.2, 0.4)  # the times at which the tokens of the oracle tasks are decided
BATCH_SIZE = 64  # texts at a time


@dataclass(frozen=True, eq=False)
class FigureInput:
    """Generator with real text.

    Args:
        name: name in the legend.
        model: generator of an oracle task, or a trained one.
        batches: batches of real text.
        seed: random seed for the noise.
    """

    name: str
    model: Generator
    batches: list[Batch]
    seed: int = 0

    def diagnostic_inputs(self) -> Iterator[tuple[DiagnosticInputs, Noise]]:
        """Model inputs of each batch, with their own noise streams; oracle latents are drawn from token clouds."""
        done = 0
        for batch in self.batches:
            noise, codec = Noise(sample_seeds(self.seed, done, len(batch.ids))), self.model.codec
            inputs, done = diagnostic_inputs(self.model, batch), done + len(batch.ids)
            if isinstance(codec, GaussianAtoms):
                inputs = inputs._replace(x=codec.sample_latents(batch.ids, noise))
            yield inputs, noise

    def terminal_residuals(self, t: float) -> Iterator[tuple[DiagnosticInputs, TerminalPosterior, Noise]]:
        """Real text noised to t, and the posterior given it."""
        for inputs, noise in self.diagnostic_inputs():
            yield inputs, terminal_posterior(inputs.denoise, inputs.path, inputs.x, inputs.mask, t, noise), noise


def oracle_input(task: OracleTask, num_texts: int, seed: int = 0) -> FigureInput:
    """Figure input of an exact or corrupted oracle task on ELF's grid; `seed` is for texts and noise."""
    ids = task.sample(Noise(sample_seeds(seed + 1, 0, num_texts)))
    batches = [Batch(part, torch.ones_like(part, dtype=torch.bool)) for part in torch.split(ids, BATCH_SIZE)]
    return FigureInput(f"world {task.name}", task.make_generator(sampling_schedule=LogitNormal()), batches, seed)


def fresh_oracle_input(name: str, num_texts: int, seed: int = 0) -> FigureInput:
    """One of the three oracle tasks, with a seed not used for tuning."""
    return oracle_input(ORACLE_TASKS[name](fresh_seed(seed)), num_texts, seed)


def independent_task(name: str, embeddings: Latents, cloud_std: float) -> OracleTask:
    """Oracle task without context: independent uniform tokens as Gaussian clouds around the embeddings [1, V, d]."""
    vocab, path = embeddings.shape[1], LinearPath(noise_scale=1.0, min_one_minus_t=1e-9)
    uniform = torch.full((vocab,), 1 / vocab, dtype=torch.float64)
    prior, codec = Chain(uniform, uniform.expand(vocab, -1).clone()), GaussianAtoms(embeddings[0].double(), cloud_std)
    return OracleTask(name, prior, codec, ExactPosterior(prior, codec, path), path)
