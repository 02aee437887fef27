"""Trained runs on the scale of `decoders.py`: DABI against three controls, and CCI."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.perturbation import DecodeFn
from textflow.discrete import Absorbing
from textflow.external.error_response import ErrorProbe, ErrorResponse, Sample
from textflow.external.language_model import final_states
from textflow.external.sharpness import count_flips
from textflow.models.causal_lm import CausalLM
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.run_folder import load
from textflow.runtime.atomic import sha256
from textflow.training.weights import read_weights
from textflow.types import Batch, Logits

from .controls import measure_controls
from .decoders import NOISE_LENGTHS, Family
from .diagnostic_case import DiagnosticCase, Row
from .external import response_row
from .protocol import run_recipe, validation_batch
from .record import Record
from .systems import BATCH_SIZE, CCI_SAMPLES, recipe_of, system_cci, take_rows

TIME = 0.5  # of the corrupted text of a diffusion over tokens: half of its tokens are lost


def run_record(run: Path, n: int, seed: int, device: torch.device | str) -> Record:
    """Name, family, CCI by its own sampler at K = 8, and rows of raw rates and ratios, as those of `PackagedDecoder`.

    A generator is measured at the last interior time of K = 8 steps, by its own denoiser's residual and by that of the
    empirical posterior. Models over tokens have no latents, and are measured at their final hidden states.

    Args:
        run: run folder.
        n: number of rows of held-out text.
        seed: random seed.
        device: torch device.
    """
    model = load(run, device)
    held_out = validation_batch(run_recipe(run)["data"], n)
    batches = [take_rows(held_out, start, model.device) for start in range(0, len(held_out.ids), BATCH_SIZE)]
    family, rows = measure_rows(model, batches, seed)
    trained = read_weights(run / "model.safetensors")[1].get("step", "")
    system = type(getattr(model, "objective", model)).__name__.removesuffix("Objective")
    label = f"{run.name}: {system}" + (f", {trained} steps" if trained else "")
    about: Record = {"name": run.name, "label": label, "family": family, "unit": "flips", "is_run": True}
    about["cci"] = system_cci(model, sample_seeds(seed, 0, min(n, CCI_SAMPLES)))
    origin = f"{recipe_of(run) or run.name}, SHA-256 {weights_id(run)}"
    return about | {"weights": origin, "rows": rows, "n": len(held_out.ids)}


def weights_id(run: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a run's weights."""
    return sha256(run / "model.safetensors")[:16]


def measure_rows(model: Any, batches: list[Batch], seed: int) -> tuple[Family, list[Row]]:
    """Family of a model, and its rows."""
    if isinstance(model, Generator):
        return "continuous text", merge_controls(measure_controls(DiagnosticCase(model, batches, seed)))
    if isinstance(model, CausalLM):
        responses = causal_response(model, batches, seed)
        return "autoregressive", [response_row(response, "flips") for response in responses]
    assert isinstance(model, DiscreteDiffusion)
    responses = discrete_response(model, batches, seed)
    return "token diffusion", [response_row(response, "flips") for response in responses]


def merge_controls(rows: list[Row]) -> list[Row]:
    """One row a residual, from one a residual and control."""
    merged: dict[str, Row] = {}
    for row in rows:
        whole = merged.setdefault(row["residual"], {"error": row["residual"], "flips": row["flips"]})
        whole[row["control"]] = row["random_flips"]
        whole |= {f"DABI_{row['control']}{end}": row[f"flip{end}"] for end in ("", "_low", "_high")} | {"n": row["n"]}
    return list(merged.values())


@torch.no_grad()
def causal_response(model: CausalLM, batches: list[Batch], seed: int) -> list[ErrorResponse]:
    """Flips of an autoregressive model's head under errors of the final hidden state."""
    net: Any = model.ema_net.eval()
    samples = list[Sample]()
    for batch in batches:
        states, mask = final_states(net, batch.ids)[0], batch.mask.clone()
        mask[:, 0] = False  # the first state sees no text
        samples += [(x[None, row], row[None, row]) for x, row in zip(states, mask, strict=True)]
    return head_response(net.get_output_embeddings(), samples, seed)


@torch.no_grad()
def discrete_response(model: DiscreteDiffusion, batches: list[Batch], seed: int) -> list[ErrorResponse]:
    """Flips of the head of a diffusion over tokens, where it predicts the lost half of a text."""
    net, process, samples, first = model.ema_net.eval(), model.objective.process, list[Sample](), 0
    masks = isinstance(process, Absorbing)
    for batch in batches:
        noise = Noise(sample_seeds(seed, first, len(batch.ids)))
        uniform, t = noise.uniform(batch.ids.shape[1]).to(batch.ids.device), torch.full((len(batch.ids),), TIME)
        lost = process.stationary(batch.ids, net.vocab_size, noise)
        ids = process.corrupt(batch.ids, lost, uniform, t.double().to(batch.ids.device))
        states, counted = model.denoise_fn()(ids, TIME), batch.mask & (ids != batch.ids) if masks else batch.mask
        samples += [(x[None, row], row[None, row]) for x, row in zip(states, counted, strict=True)]
        first += len(batch.ids)

    def decode(hidden: torch.Tensor) -> Logits:
        logits = net.lm_logits(hidden)
        return logits[..., :-1] if masks else logits  # the mask is not a token

    return head_response(decode, samples, seed)


def head_response(decode: DecodeFn, samples: list[Sample], seed: int) -> list[ErrorResponse]:
    """Flips along the residual of the empirical posterior, in the second half of the texts."""
    seeds = sample_seeds(seed, 2 * len(samples), len(samples))
    kept = [sample for sample in samples if sample[1].any()]
    flips = partial(count_flips, decode)
    return ErrorProbe(kept, flips, seeds[: len(kept)], True, lengths=NOISE_LENGTHS).empirical()
