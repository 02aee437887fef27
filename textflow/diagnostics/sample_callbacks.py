"""Diagnostics callbacks on samples; each wraps the pure functions of one diagnostic."""

from collections.abc import Mapping
from typing import Any

import torch

from textflow.diagnostics.base import Diagnostic, prompt_of
from textflow.diagnostics.cci import cci, collect_fed_ids, evidence_strength
from textflow.diagnostics.margins import token_margins
from textflow.diagnostics.residual import stream_seeds
from textflow.diagnostics.stiffness import StiffnessResult as Measured
from textflow.diagnostics.stiffness import sampler_stiffness
from textflow.models.autoencoder import Autoencoder
from textflow.noise import Noise
from textflow.samplers.prompt import Prompt
from textflow.types import Batch, Ids, Mask


class SampleDiagnostic(Diagnostic):
    """Base class that samples with the run's sampler; in a run of pairs, the held-out sources are the prompts.

    Args:
        every_n_steps: optimizer steps between two measurements.
        num_rows: number of samples.
        seed: random seed of the noise.
        num_steps: number of sampling steps.
    """

    def __init__(self, every_n_steps: int = 500, num_rows: int = 16, seed: int = 0, num_steps: int = 8) -> None:
        super().__init__(every_n_steps, num_rows, seed)
        self.num_steps = num_steps

    def draw_samples(self, model: Any, batch: Batch, noise: Noise) -> tuple[Any, Prompt | None]:
        """Samples, and their prompt."""
        require_generator(self, model)
        prompt = prompt_of(model, batch)
        return model.sample(stream_seeds(noise), self.num_steps, length=batch.ids.shape[1], prompt=prompt), prompt


class CCI(SampleDiagnostic):
    """cci/value of samples: share of token pairs where one was committed while conditioned on the other [ours]."""

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        samples, prompt = self.draw_samples(model, batch, noise)
        return {"cci/value": generator_cci(model, samples, noise, prompt)}


class Margins(SampleDiagnostic):
    """margins/mean, margins/settled_time: log-probability margin at half the steps, and mean time at which a token
    reaches its final value for good [ours]."""

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        samples, prompt = self.draw_samples(model, batch, noise)
        mask = generated_mask(samples.ids, prompt)
        result = token_margins(samples.trace, model.logits_fn(prompt), samples.ids, mask)
        summary, half = result.summary(), self.num_steps // 2
        return {
            "margins/mean": float(summary["mean"][half]),
            "margins/p10": float(summary["p10"][half]),
            "margins/agreement": float(summary["agreement"][half]),
            "margins/settled_time": float(result.settling_call[mask].double().mean()) / self.num_steps,
        }


class Stiffness(Diagnostic):
    """stiffness/peak and stiffness/total of the sampling map, by power iteration [ours].

    Args:
        every_n_steps: optimizer steps between two measurements.
        num_rows: number of samples; each costs about 6 network evaluations per step and iteration.
        seed: random seed of the noise.
        num_steps: number of sampling steps.
        num_iterations: power iterations from one start; the norm is a lower bound.
    """

    def __init__(
        self, every_n_steps: int = 500, num_rows: int = 1, seed: int = 0, num_steps: int = 4, num_iterations: int = 4
    ) -> None:
        super().__init__(every_n_steps, num_rows, seed)
        self.num_steps, self.num_iterations = num_steps, num_iterations

    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        length, prompt = batch.ids.shape[1], prompt_of(model, batch)
        result = generator_stiffness(model, stream_seeds(noise), self.num_steps, length, 1, self.num_iterations, prompt)
        return {"stiffness/peak": float(result.peak.mean()), "stiffness/total": float(result.total_norm.mean())}


def generator_stiffness(
    model: Any, seeds: list[int], num_steps: int, length: int | None = None, num_starts: int = 3,
    num_iterations: int = 8, prompt: Prompt | None = None,
) -> Measured:  # fmt: skip
    """Stiffness of a generator's sampling map, with its sampler, sampling schedule and escape.

    Args:
        model: the generator.
        seeds: random seeds, one per sample.
        num_steps: number of sampling steps.
        length: number of latents; default: the training length.
        num_starts: number of starting directions.
        num_iterations: power iterations per start.
        prompt: prompt of the samples; its positions are held fixed.
    """
    z, noise = model.initial_noise(seeds, length)
    return sampler_stiffness(
        lambda streams: model.denoiser(escape=model.escape, noise=streams, prompt=prompt, start=z),
        model.sampler,
        model.path,
        model.sampling_schedule.grid(num_steps),
        z,
        noise,
        probes=Noise([seed + 1 for seed in seeds]),
        prompt=None if prompt is None else prompt.latents,
        prompt_mask=None if prompt is None else prompt.mask,
        final_denoise=model.denoiser(prompt=prompt, start=z),
        num_starts=num_starts,
        num_iterations=num_iterations,
        batch_size=8 if prompt is None else len(z),
    )


def generator_cci(model: Any, sample: Any, noise: Noise, prompt: Prompt | None = None) -> float:
    """CCI of samples of a generator, over the positions outside the prompt.

    Args:
        model: the generator.
        sample: return value of `model.sample`.
        noise: one stream per sample.
        prompt: prompt of the samples.
    """
    fed, mask = collect_fed_ids(sample.trace), generated_mask(sample.ids, prompt)
    if not any(bool((ids >= 0)[mask].any()) for ids in fed):
        return 0.0
    codes, seeds = model.denoiser(prompt=prompt).embed(sample.ids), stream_seeds(noise)
    read = model.codec.decode_logits if model.codec.has_decoder else model.logits_fn(prompt)
    times = sample.trace.times
    weights = [evidence_strength(read, codes, mask, model.path, t, Noise(seeds)) for t in times]
    return cci(fed, sample.ids, weights, mask).value


def generated_mask(ids: Ids, prompt: Prompt | None) -> Mask:
    """True at sampled tokens, False at prompt tokens."""
    return torch.ones_like(ids, dtype=torch.bool) if prompt is None else ~prompt.mask


def require_generator(diagnostic: Diagnostic, model: Any) -> None:
    """Raise if the model is an autoencoder, which draws no samples."""
    if isinstance(model, Autoencoder):
        name = type(diagnostic).__name__
        raise ValueError(f"{name} measures samples, and an autoencoder draws none: remove {name} from this recipe")
