"""Diagnostics of a trained run or an oracle task, as rows for printing, saving and plotting."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch

from textflow.diagnostics.ablation import SoftFeedback
from textflow.diagnostics.base import DiagnosticInputs, diagnostic_inputs, prompt_of
from textflow.diagnostics.bootstrap import Ratio, concat_batches
from textflow.diagnostics.dabi import RESIDUAL_SCALES, Response, measure_response, summarise_response
from textflow.diagnostics.decoder_temperature import sweep_decoder
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.margins import token_margins
from textflow.diagnostics.metric import DiagnosticMetric
from textflow.diagnostics.residual import TerminalPosterior, channel_blur, stream_seeds
from textflow.diagnostics.rollin import FlipCounts, cumulative_flips, rollin_curves, rollin_flips
from textflow.diagnostics.rowspace import estimate_row_space, row_energy_fraction
from textflow.diagnostics.sample_callbacks import generated_mask, generator_cci, generator_stiffness
from textflow.diagnostics.tube import evaluate_tube_law, tube_positions
from textflow.escapes import Commit, Escape, NoEscape
from textflow.metrics import mean_entropy
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler
from textflow.samplers.prompt import Prompt
from textflow.types import Batch

Row = dict[str, Any]
STEP_COUNTS = (2, 4, 8, 16)


class DiagnosticCase(NamedTuple):
    """Model and data of a diagnosis.

    Args:
        model: trained generator, or the generator of an oracle task.
        batches: batches of real text.
        seed: random seed for the noise.
    """

    model: Generator
    batches: list[Batch]
    seed: int = 0

    def first_rows(self, n: int | None = None) -> tuple[list[int], Prompt | None]:
        """Sample seeds and prompts, one per row, for the first n rows."""
        ids, mask = torch.cat([batch.ids for batch in self.batches]), torch.cat([batch.mask for batch in self.batches])
        fixed = [batch.prompt_mask for batch in self.batches if batch.prompt_mask is not None]
        whole = Batch(ids, mask, torch.cat(fixed) if fixed else None).map(lambda part: part[:n])
        return sample_seeds(self.seed, 0, len(whole.ids)), prompt_of(self.model, whole)

    def diagnostic_inputs(self) -> Iterator[tuple[DiagnosticInputs, Noise]]:
        """Model inputs of each batch, with their own noise streams."""
        done = 0
        for batch in self.batches:
            yield diagnostic_inputs(self.model, batch), Noise(sample_seeds(self.seed, done, len(batch.ids)))
            done += len(batch.ids)

    def terminals(self, steps: int) -> Iterator[tuple[DiagnosticInputs, TerminalPosterior, Noise]]:
        """Real text at the last interior time of a grid."""
        for inputs, noise in self.diagnostic_inputs():
            yield inputs, inputs.terminal_posterior(steps, noise), noise


def measure_dabi(case: DiagnosticCase) -> list[Row]:
    """DABI at the last interior time of several grids, then its response to scaled residuals."""
    rows = [dabi_row(case, steps, 1.0) for steps in STEP_COUNTS[1:]]
    return rows + [dabi_row(case, 8, scale, draws=4) for scale in RESIDUAL_SCALES if scale != 1.0]


def dabi_row(case: DiagnosticCase, steps: int, scale: float, draws: int = 8) -> Row:
    """Row with both ratios, their numerators and denominators."""
    meter, t = DiagnosticMetric(Response, partial(dabi_numbers, scale=scale, draws=draws, seed=case.seed)), 0.0
    for inputs, posterior, noise in case.terminals(steps):
        meter.update(measure_response(inputs.decode, inputs.x, posterior.x0_pred, inputs.mask, noise, scale, draws))
        t = posterior.t
    return {"K": steps, "t": t, "scale": scale} | meter.compute()


def dabi_numbers(seen: Response, scale: float, draws: int, seed: int) -> Row:
    """Both ratios over all batches, their numerators and denominators, and sample sizes."""
    result = summarise_response(seen, scale, draws, seed=seed)
    rates = {"flips": result.flip.numerator, "random_flips": result.flip.denominator}
    nats = {"nats": result.loss.numerator, "random_nats": result.loss.denominator}
    size = {"n": result.size.num_positions, "sequences": result.size.num_sequences, "draws": draws}
    return with_interval("ce", result.loss) | with_interval("flip", result.flip) | rates | nats | size


def with_interval(name: str, ratio: Ratio) -> Row:
    """Ratio with its 95 % interval; the value is None where only a bound is known."""
    value = ratio.value if ratio.has_value else None
    return {name: value, f"{name}_low": ratio.low, f"{name}_high": ratio.high if ratio.high < float("inf") else None}


def measure_tube(case: DiagnosticCase) -> list[Row]:
    """Tube law against observed flips at the last time of several grids; boundaries of the codec's readout."""
    return [tube_row(case, steps) for steps in STEP_COUNTS]


def tube_row(case: DiagnosticCase, steps: int) -> Row:
    """Row of blurs in latent standard deviations, predicted and observed flips."""
    parts, s_ch, t = [], 0.0, 0.0
    for inputs, posterior, noise in case.terminals(steps):
        facet = nearest_facets(inputs.decode_positionwise, inputs.x, posterior.residual)
        parts.append(tube_positions(inputs.decode_positionwise, posterior, inputs.path, facet, noise))
        s_ch, t = channel_blur(inputs.path, posterior.t), posterior.t
    result = evaluate_tube_law(concat_batches(parts), t, s_ch, sum(len(batch.ids) for batch in case.batches))
    unit = max(result.latent_rms, 1e-12)
    return {
        "K": steps,
        "t": t,
        "channel_blur": s_ch / unit,
        "blur": result.posterior_blur / unit,
        "normal_blur": result.normal_blur / unit,
        "density": result.density.value * unit,
        "separated": result.density.is_separated,
        "predicted": result.predicted,
        "any_law": result.predicted_any_law,
        "surrogate": result.surrogate,
        "observed": result.observed,
        "ratio": None if result.predicted == 0 else result.ratio,
        "valid": result.is_valid,
        "n": result.size.num_positions,
    }


def measure_rollin(case: DiagnosticCase) -> list[Row]:
    """Flips of one step from noised real text (last: terminal), and of sampler states from the first interior time."""
    return [row for steps in STEP_COUNTS for row in rollin_rows(case, steps)]


def rollin_rows(case: DiagnosticCase, steps: int) -> list[Row]:
    """Rows for each interior time and for the end."""
    alone: list[list[FlipCounts]] = []
    driven: list[list[FlipCounts]] = []
    times = case.model.sampling_schedule.grid(steps)
    for inputs, noise in case.diagnostic_inputs():
        seeds, tokens = stream_seeds(noise), inputs.token_logits
        real = (inputs.decode, inputs.path, inputs.x, inputs.mask, times)
        alone.append(rollin_flips(inputs.denoise, *real, Noise(seeds), tokens))
        driven.append(cumulative_flips(inputs.denoise, Euler(), *real, Noise(seeds), tokens))
    rolls, own = ([concat_batches(parts) for parts in zip(*batches, strict=True)] for batches in (alone, driven))
    result = rollin_curves(rolls, own, times)
    rows = [
        {
            "K": steps,
            "t": roll.t,
            "channel_blur": channel_blur(case.model.path, roll.t),
            "flips": roll.flip_rate,
            "bayes_error": roll.bayes_error,
            "token_error": roll.token_error,
            "excess": roll.excess_flip_rate,
            "cumulative": along.flip_rate,
            "n": roll.size.num_positions,
        }
        for roll, along in zip(result.rollin, result.cumulative, strict=True)
    ]
    return [*rows, {"K": steps, "t": 1.0, "cumulative": result.final.flip_rate, "n": result.final.size.num_positions}]


def measure_cci(case: DiagnosticCase, steps: int = 8) -> list[Row]:
    """CCI of samples under several escapes, and the same samples with the mean fed back instead."""
    escapes: dict[str, Escape] = {"none": NoEscape(), "mode commit": Commit()}
    if not isinstance(case.model.escape, NoEscape):
        escapes = {"the run's own": case.model.escape} | escapes
    begun = case.first_rows()
    return [cci_row(case.model, name, escape, *begun, steps) for name, escape in escapes.items()]


def cci_row(model: Generator, name: str, escape: Escape, seeds: list[int], prompt: Prompt | None, steps: int) -> Row:
    """Row of CCI, entropy, and the share of tokens that change without feedback."""
    made = model.sample(seeds, steps, escape=escape, prompt=prompt)
    soft = model.sample(seeds, steps, escape=SoftFeedback(escape), prompt=prompt)
    here = generated_mask(made.ids, prompt)
    tokens, others = made.ids[here], soft.ids[here]
    law = torch.bincount(tokens).double() / len(tokens)
    chance = 1 - float((law**2).sum())
    return {
        "escape": name,
        "K": steps,
        "cci": generator_cci(model, made, Noise(seeds), prompt),
        "entropy": mean_entropy([row[own].tolist() for row, own in zip(made.ids, here, strict=True)]),
        "ablated_entropy": mean_entropy([row[own].tolist() for row, own in zip(soft.ids, here, strict=True)]),
        "changed": float((tokens != others).double().mean()),
        "chance": chance,
        "n": len(tokens),
    }


def measure_stiffness(case: DiagnosticCase, rows: int = 4) -> list[Row]:
    """Stiffness of each step, its peak, and that of the whole map."""
    result, length, (seeds, prompt) = [], case.batches[0].ids.shape[1], case.first_rows(rows)
    for steps in STEP_COUNTS[:3]:
        stiff = generator_stiffness(case.model, seeds, steps, length, prompt=prompt)
        means = {name: value.tolist() for name, value in stiff.summary().items()}
        result.append(
            {"K": steps, **means, "rows": len(seeds), "starts": stiff.num_starts, "iterations": stiff.num_iterations}
        )
    return result


def measure_margins(case: DiagnosticCase, steps: int = 8, rows: int = 64) -> list[Row]:
    """Readout margin at each call of the run's own sampling, and the share of settled tokens."""
    model, (seeds, prompt) = case.model, case.first_rows(rows)
    made = model.sample(seeds, steps, prompt=prompt)
    result = token_margins(made.trace, model.logits_fn(prompt), made.ids, generated_mask(made.ids, prompt)).summary()
    columns = {name: result[name].tolist() for name in ("mean", "p10", "agreement", "settled_fraction")}
    columns |= {"mean_shift": [None, *result["mean_shift"].tolist()], "rows": [len(seeds)] * len(made.trace.times)}
    return [
        {"call": k, "t": t} | {name: column[k] for name, column in columns.items()}
        for k, t in enumerate(made.trace.times)
    ]


def measure_decoder_temperature(case: DiagnosticCase) -> list[Row]:
    """Decoder temperature and uniform mixing, which change the loss but not the flips (first batch, K = 8)."""
    inputs, posterior, noise = next(case.terminals(8))
    return [
        {"change": b.change, "amount": b.amount, "ce": asdict(b.dabi.loss)["value"], "flips": b.dabi.flip.numerator}
        | {"nats": b.dabi.loss.numerator, "n": b.dabi.size.num_positions}
        for b in sweep_decoder(inputs.decode, inputs.x, posterior.x0_pred, inputs.mask, noise)
    ]


def measure_rowspace(case: DiagnosticCase) -> list[Row]:
    """Energy fraction of the residual in the row space of the codec's readout (first batch, K = 8)."""
    _, posterior, noise = next(case.terminals(8))
    few, width = diagnostic_inputs(case.model, case.batches[0].map(lambda part: part[:8])), posterior.x.shape[-1]
    basis = estimate_row_space(few.decode_positionwise, few.x, few.mask, Noise(stream_seeds(noise)[:8]))
    share = row_energy_fraction(posterior.x, posterior.x0_pred, posterior.mask, basis)
    return [{"rank": len(basis), "width": width, "energy_fraction": share, "isotropic": len(basis) / width}]


MEASURES: dict[str, Callable[[DiagnosticCase], list[Row]]] = {
    "dabi": measure_dabi,
    "tube": measure_tube,
    "rollin": measure_rollin,
    "cci": measure_cci,
    "margins": measure_margins,
    "stiffness": measure_stiffness,
    "decoder_temperature": measure_decoder_temperature,
    "rowspace": measure_rowspace,
}
