"""DABI against several controls, of the denoiser's residual and of one that needs no training."""

from collections.abc import Iterator
from operator import itemgetter

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.diagnostics.base import DiagnosticInputs
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.dabi import measure_response, summarise_response
from textflow.diagnostics.empirical_posterior import EmpiricalPosterior
from textflow.diagnostics.perturbation import Control, covariance_root
from textflow.diagnostics.residual import latent_mask, stream_seeds
from textflow.noise import Noise
from textflow.types import Latents

from .diagnostic_case import DiagnosticCase, Row, response_columns

CONTROLS: dict[str, Control] = {"isotropic": "full", "covariance": "covariance", "shuffled": "shuffled"}
BANK_SIZE = 8192  # latents in the bank, at most
DRAWS = 8

Perturbed = tuple[DiagnosticInputs, Latents, list[int]]  # inputs, prediction, seeds of the random directions


def measure_controls(case: DiagnosticCase, steps: int = 8) -> list[Row]:
    """Rows by residual and control at the last interior time of K steps.

    The bank holds the latents of the first half of the rows, and its residual is measured on the second half.
    All controls share their random numbers, which are not those of the noised text.
    """
    trained = [(inputs, posterior.x0_pred, stream_seeds(noise)) for inputs, posterior, noise in case.terminals(steps)]
    residuals = {"denoiser": trained}
    if other := list(empirical_residuals(case, steps)):
        residuals["empirical posterior"] = other
    root = covariance_root(torch.cat([text_latents(inputs) for inputs, *_ in trained]))
    rows = []
    for residual, parts in residuals.items():
        for name, control in CONTROLS.items():
            sums = [
                measure_response(inputs.decode, inputs.x, x0_pred, inputs.mask, Noise(seeds), 1.0, DRAWS, control, root)
                for inputs, x0_pred, seeds in parts
            ]
            result = summarise_response(concat_batches(sums), 1.0, DRAWS, control, case.seed)
            size = {"n": result.size.num_positions, "sequences": result.size.num_sequences}
            rows.append({"residual": residual, "control": name} | response_columns(result) | size)
    return rows


def text_latents(inputs: DiagnosticInputs) -> Float[Tensor, "N d"]:
    """Latents of the text of a batch, without padding."""
    return inputs.x[latent_mask(inputs.mask, inputs.x)]


def take_rows(case: DiagnosticCase, rows: range) -> DiagnosticCase:
    """The case with some of its rows."""
    batches, first = [], 0
    for batch in case.batches:
        part = slice(max(rows.start - first, 0), max(rows.stop - first, 0))
        batches.append(batch.map(itemgetter(part)))
        first += len(batch.ids)
    return case._replace(batches=[batch for batch in batches if len(batch.ids)])


def empirical_residuals(case: DiagnosticCase, steps: int) -> Iterator[Perturbed]:
    """Predictions of the empirical posterior for the second half of the rows; none for a single row."""
    total = sum(len(batch.ids) for batch in case.batches)
    if total < 2:  # no other text for the bank
        return
    known = take_rows(case, range(total // 2)).diagnostic_inputs()
    bank = torch.cat([text_latents(inputs) for inputs, _ in known])
    denoise = EmpiricalPosterior(bank[:BANK_SIZE], case.model.path)
    for inputs, noise in take_rows(case, range(total // 2, total)).diagnostic_inputs():
        posterior = inputs._replace(denoise=denoise).terminal_posterior(steps, noise)
        yield inputs, posterior.x0_pred, stream_seeds(noise)
