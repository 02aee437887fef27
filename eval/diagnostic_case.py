"""Model and text of a diagnosis, and the form of its rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from textflow.diagnostics.base import DiagnosticInputs, diagnostic_inputs, prompt_of
from textflow.diagnostics.bootstrap import Ratio
from textflow.diagnostics.dabi import DABIResult
from textflow.diagnostics.residual import TerminalPosterior
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Prompt
from textflow.types import Batch

Row = dict[str, Any]


class DiagnosticCase(NamedTuple):
    """Model and data of a diagnosis."""

    model: Any  # a Generator; for CCI alone also a DiscreteDiffusion
    batches: list[Batch]
    seed: int = 0

    def first_rows(self, n: int | None = None) -> tuple[list[int], Prompt | None]:
        """Sample seeds and prompts of the first n rows."""
        ids, mask = (torch.cat([getattr(batch, name) for batch in self.batches]) for name in ("ids", "mask"))
        fixed = [batch.prompt_mask for batch in self.batches if batch.prompt_mask is not None]
        batch = Batch(ids, mask, torch.cat(fixed) if fixed else None).map(lambda part: part[:n])
        return sample_seeds(self.seed, 0, len(batch.ids)), prompt_of(self.model, batch)

    def diagnostic_inputs(self) -> Iterator[tuple[DiagnosticInputs, Noise]]:
        """Model inputs of each batch, with a noise stream for each row."""
        first = 0
        for batch in self.batches:
            yield diagnostic_inputs(self.model, batch), Noise(sample_seeds(self.seed, first, len(batch.ids)))
            first += len(batch.ids)

    def terminals(self, steps: int) -> Iterator[tuple[DiagnosticInputs, TerminalPosterior, Noise]]:
        """Real text at the last interior time of a grid."""
        return ((inputs, inputs.terminal_posterior(steps, noise), noise) for inputs, noise in self.diagnostic_inputs())


def response_columns(result: DABIResult) -> Row:
    """Columns of a DABI: rates of flips first, then nats, then the ratios with their intervals."""
    rates = {"flips": result.flip.numerator, "random_flips": result.flip.denominator}
    nats = {"nats": result.loss.numerator, "random_nats": result.loss.denominator}
    return rates | nats | with_interval("flip", result.flip) | with_interval("ce", result.loss)


def with_interval(name: str, ratio: Ratio) -> Row:
    """Ratio with its 95 % interval; the value is None where only a bound is known."""
    value, high = ratio.value if ratio.has_value else None, ratio.high if ratio.high < float("inf") else None
    return {name: value, f"{name}_low": ratio.low, f"{name}_high": high}
