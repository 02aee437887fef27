"""Diagnostics of a trained run or an oracle task, as rows for printing, saving and plotting."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from textflow.diagnostics.ablation import SoftFeedback, soft_feedback
from textflow.diagnostics.base import diagnostic_inputs
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.dabi import RESIDUAL_SCALES, measure_response, summarise_response
from textflow.diagnostics.decoder_temperature import sweep_decoder
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.margins import token_margins
from textflow.diagnostics.residual import channel_blur, stream_seeds
from textflow.diagnostics.rollin import cumulative_flips, rollin_curves, rollin_flips
from textflow.diagnostics.rowspace import estimate_row_space, row_energy_fraction
from textflow.diagnostics.sample_callbacks import generated_mask, generator_cci, generator_stiffness
from textflow.diagnostics.text_likelihood import gumbel_law, likelihood_rows
from textflow.diagnostics.tube import evaluate_tube_law, mean, tube_positions
from textflow.escapes import Commit, Escape, NoEscape
from textflow.metrics import mean_entropy
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler, Prompt

from .controls import measure_controls
from .diagnostic_case import DiagnosticCase, Row, response_columns
from .discrete_cci import discrete_cci
from .gates import measure_gates

STEP_COUNTS = (2, 4, 8, 16)


def measure_dabi(case: DiagnosticCase) -> list[Row]:
    """DABI at the last interior time of several grids, then its response to scaled residuals."""
    rows = [dabi_row(case, steps, 1.0) for steps in STEP_COUNTS[1:]]
    return rows + [dabi_row(case, 8, scale, draws=4) for scale in RESIDUAL_SCALES if scale != 1.0]


def dabi_row(case: DiagnosticCase, steps: int, scale: float, draws: int = 8) -> Row:
    """Row with both ratios, their numerators and denominators, and sample sizes."""
    parts, t = [], 0.0
    for inputs, posterior, noise in case.terminals(steps):
        parts.append(measure_response(inputs.decode, inputs.x, posterior.x0_pred, inputs.mask, noise, scale, draws))
        t = posterior.t
    result = summarise_response(concat_batches(parts), scale, draws, seed=case.seed)
    size = {"n": result.size.num_positions, "sequences": result.size.num_sequences, "draws": draws}
    return {"K": steps, "t": t, "scale": scale} | response_columns(result) | size


def measure_tube(case: DiagnosticCase, step_counts: Sequence[int] = STEP_COUNTS) -> list[Row]:
    """Tube law against observed flips at the last time of several grids, with blurs in latent standard deviations;
    boundaries of the codec's readout. Inside: share of positions nearer to a boundary than the blur [ours]."""
    rows, readouts = [], ((inputs.decode_positionwise, inputs.x) for inputs, _ in case.diagnostic_inputs())
    facets = [nearest_facets(*readout) for readout in readouts]
    for steps in step_counts:
        parts, s_ch, t = [], 0.0, 0.0
        for (inputs, posterior, noise), facet in zip(case.terminals(steps), facets, strict=True):
            parts.append(tube_positions(inputs.decode_positionwise, posterior, inputs.path, facet, noise))
            s_ch, t = channel_blur(inputs.path, posterior.t), posterior.t
        positions = concat_batches(parts)
        law = evaluate_tube_law(positions, t, s_ch, sum(len(batch.ids) for batch in case.batches))
        unit, ratio = max(law.latent_rms, 1e-12), None if law.predicted == 0 else law.ratio
        rows.append(
            {"K": steps, "t": t, "channel_blur": s_ch / unit, "blur": law.posterior_blur / unit}
            | {"normal_blur": law.normal_blur / unit, "density": law.density.value * unit}
            | {"separated": law.density.is_separated, "predicted": law.predicted, "any_law": law.predicted_any_law}
            | {"surrogate": law.surrogate, "observed": law.observed, "ratio": ratio, "valid": law.is_valid}
            | {"inside": mean(positions.distance < law.posterior_blur), "n": law.size.num_positions}
        )
    return rows


def measure_rollin(case: DiagnosticCase, step_counts: Sequence[int] = STEP_COUNTS) -> list[Row]:
    """Flips of one step from noised real text (last: terminal), and of sampler states from the first interior time."""
    rows = []
    for steps in step_counts:
        path, single, cumulative = case.model.path, [], []
        times = case.model.sampling_schedule.grid(steps, t_min=path.t_min, t_max=path.t_max)
        for inputs, noise in case.diagnostic_inputs():
            seeds, tokens = stream_seeds(noise), inputs.token_logits
            real = (inputs.decode, inputs.path, inputs.x, inputs.mask, times)
            single.append(rollin_flips(inputs.denoise, *real, Noise(seeds), tokens))
            cumulative.append(cumulative_flips(inputs.denoise, Euler(), *real, Noise(seeds), tokens))
        rolls, own = ([concat_batches(p) for p in zip(*batches, strict=True)] for batches in (single, cumulative))
        curves = rollin_curves(rolls, own, times)
        rows += [
            {"K": steps, "t": step.t, "channel_blur": channel_blur(case.model.path, step.t), "flips": step.flip_rate}
            | {"bayes_error": step.bayes_error, "token_error": step.token_error, "excess": step.excess_flip_rate}
            | {"cumulative": driven.flip_rate, "n": step.size.num_positions}
            for step, driven in zip(curves.rollin, curves.cumulative, strict=True)
        ]
        final = {"cumulative": curves.final.flip_rate, "n": curves.final.size.num_positions}
        rows.append({"K": steps, "t": path.t_max} | final)
    return rows


def measure_cci(case: DiagnosticCase, steps: int = 8) -> list[Row]:
    """CCI of samples under several escapes, and the same samples with the mean fed back instead; of a diffusion over
    tokens CCI of its own samples."""
    if isinstance(case.model, DiscreteDiffusion):
        seeds = sample_seeds(case.seed, 0, sum(len(batch.ids) for batch in case.batches))
        value, ids = discrete_cci(case.model, seeds, steps)
        return [{"K": steps, "cci": value, "entropy": mean_entropy(ids.tolist()), "n": ids.numel()}]
    own = {} if isinstance(case.model.escape, NoEscape) else {"the run's own": case.model.escape}
    escapes: dict[str, Escape] = own | {"none": NoEscape()}
    if case.model.codec.has_latent_per_token(case.batches[0].ids.shape[1]):
        escapes["mode commit"] = Commit()
    seeds, prompt = case.first_rows()
    return [cci_row(case.model, name, escape, seeds, prompt, steps) for name, escape in escapes.items()]


def cci_row(model: Generator, name: str, escape: Escape, seeds: list[int], prompt: Prompt | None, steps: int) -> Row:
    """Row of CCI, entropy, and the share of tokens that change without feedback."""
    hard = model.sample(seeds, steps, escape=escape, prompt=prompt)
    with soft_feedback(model.readout):
        soft = model.sample(seeds, steps, escape=SoftFeedback(escape), prompt=prompt)
    tokens = hard.ids[mask := generated_mask(hard.ids, prompt)]
    law = torch.bincount(tokens).double() / len(tokens)
    rows = ([row[own].tolist() for row, own in zip(made.ids, mask, strict=True)] for made in (hard, soft))
    entropy, ablated = map(mean_entropy, rows)
    changed, chance = float((tokens != soft.ids[mask]).double().mean()), 1 - float((law**2).sum())
    row = {"escape": name, "K": steps, "cci": generator_cci(model, hard, Noise(seeds), prompt), "entropy": entropy}
    return row | {"ablated_entropy": ablated, "changed": changed, "chance": chance, "n": len(tokens)}


def measure_stiffness(case: DiagnosticCase, rows: int = 4) -> list[Row]:
    """Stiffness of each step, its peak, and that of the whole map."""
    result, (seeds, prompt) = list[Row](), case.first_rows(rows)
    for steps in STEP_COUNTS[:3]:
        stiff = generator_stiffness(case.model, seeds, steps, case.batches[0].ids.shape[1], prompt=prompt)
        means = {name: value.tolist() for name, value in stiff.summary().items()}
        sizes = {"rows": len(seeds), "starts": stiff.num_starts, "iterations": stiff.num_iterations}
        result.append({"K": steps, **means, **sizes})
    return result


def measure_margins(case: DiagnosticCase, steps: int = 8, rows: int = 64) -> list[Row]:
    """Readout margin at each call of the run's own sampling, and the share of settled tokens."""
    model, (seeds, prompt) = case.model, case.first_rows(rows)
    sample = model.sample(seeds, steps, prompt=prompt)
    trace, mask = sample.trace, generated_mask(sample.ids, prompt)
    result = token_margins(trace, model.logits_fn(prompt, trace.z), sample.ids, mask).summary()
    columns: dict[str, Sequence[Any]] = {"call": range(len(trace.times)), "t": trace.times}
    columns |= {name: result[name].tolist() for name in ("mean", "p10", "agreement", "settled_fraction")}
    columns |= {"mean_shift": [None, *result["mean_shift"].tolist()], "rows": [len(seeds)] * len(trace.times)}
    return [{name: column[k] for name, column in columns.items()} for k in range(len(trace.times))]


def measure_decoder_temperature(case: DiagnosticCase) -> list[Row]:
    """Decoder temperature and uniform mixing, which change the loss but not the flips (first batch, K = 8)."""
    inputs, posterior, noise = next(case.terminals(8))
    return [
        {"change": r.change, "amount": r.amount, "ce": r.dabi.loss.value, "flips": r.dabi.flip.numerator}
        | {"nats": r.dabi.loss.numerator, "n": r.dabi.size.num_positions}
        for r in sweep_decoder(inputs.decode, inputs.x, posterior.x0_pred, inputs.mask, noise)
    ]


def measure_rowspace(case: DiagnosticCase) -> list[Row]:
    """Energy fraction of the residual in the row space of the codec's readout (first batch, K = 8)."""
    _, posterior, noise = next(case.terminals(8))
    few, width = diagnostic_inputs(case.model, case.batches[0].map(lambda part: part[:8])), posterior.x.shape[-1]
    basis = estimate_row_space(few.decode_positionwise, few.x, few.mask, Noise(stream_seeds(noise)[:8]))
    share = row_energy_fraction(posterior.x, posterior.x0_pred, posterior.mask, basis)
    return [{"rank": len(basis), "width": width, "energy_fraction": share, "isotropic": len(basis) / width}]


MEASURES: dict[str, Callable[[DiagnosticCase], list[Row]]] = {
    **{"dabi": measure_dabi, "controls": measure_controls, "tube": measure_tube, "rollin": measure_rollin},
    **{"cci": measure_cci, "margins": measure_margins, "stiffness": measure_stiffness},
    **{"decoder_temperature": measure_decoder_temperature, "rowspace": measure_rowspace},
    "gates": measure_gates,
    "likelihood": lambda case: likelihood_rows(case.model, case.batches[0], case.seed),
}


def applicable(names: list[str], model: Any, chosen: bool) -> list[str]:
    """The measures that apply to a model: of a diffusion over tokens, which has no latents, CCI alone.

    Args:
        names: measures that were asked for.
        model: the model.
        chosen: whether they were named; a name that does not apply is then an error.
    """
    if isinstance(model, DiscreteDiffusion):
        if chosen and (wrong := [name for name in names if name != "cci"]):
            raise ValueError(f"{wrong[0]} measures latents, and a DiscreteDiffusion has none; give --measures cci")
        return ["cci"]
    return [name for name in names if chosen or name != "likelihood" or gumbel_law(model) is not None]
