"""Diagnostics callbacks on samples; each wraps the pure functions of one diagnostic."""

from abc import abstractmethod
from collections.abc import Mapping

import torch

from textflow.diagnostics.base import Diagnostic, prompt_of, require_latents
from textflow.diagnostics.cci import cci, collect_fed_ids, evidence_strength
from textflow.diagnostics.margins import token_margins
from textflow.diagnostics.residual import stream_seeds
from textflow.diagnostics.stiffness import StiffnessResult, sampler_stiffness
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.samplers import Prompt, Sample
from textflow.types import Batch, Ids, Mask


class SampleDiagnostic(Diagnostic):
    """Base class that samples with the run's sampler; in a run of pairs, the held-out sources are the prompts.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of samples.
        seed: random seed for sampling.
        num_steps: number of sampling steps.
    """

    def __init__(self, every_n_steps: int = 500, num_rows: int = 16, seed: int = 0, num_steps: int = 8) -> None:
        super().__init__(every_n_steps, num_rows, seed)
        self.num_steps = num_steps

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        model = require_generator(self, model)
        seeds, prompt = stream_seeds(noise), prompt_of(model, batch)
        samples = model.sample(seeds, self.num_steps, length=batch.ids.shape[1], prompt=prompt)
        return self.summarise(model, samples, noise, prompt)

    @abstractmethod
    def summarise(self, model: Generator, samples: Sample, noise: Noise, prompt: Prompt | None) -> Mapping[str, float]:
        """Measured values by log key."""


class CCI(SampleDiagnostic):
    """cci/value of samples: share of token pairs where one was committed while conditioned on the other [ours]."""

    def summarise(self, model: Generator, samples: Sample, noise: Noise, prompt: Prompt | None) -> Mapping[str, float]:
        return {"cci/value": generator_cci(model, samples, noise, prompt)}


class Margins(SampleDiagnostic):
    """margins/mean, margins/settled_time: log-probability margin at half the steps, and mean time at which a token
    reaches its final value for good [ours]."""

    def summarise(self, model: Generator, samples: Sample, noise: Noise, prompt: Prompt | None) -> Mapping[str, float]:
        mask = generated_mask(samples.ids, prompt)
        result = token_margins(samples.trace, model.logits_fn(prompt, samples.trace.z), samples.ids, mask)
        summary, half = result.summary(), self.num_steps // 2
        means = {f"margins/{name}": float(summary[name][half]) for name in ("mean", "p10", "agreement")}
        return means | {"margins/settled_time": float(result.settling_call[mask].double().mean()) / self.num_steps}


class Stiffness(Diagnostic):
    """stiffness/peak and stiffness/total of the sampling map, by power iteration [ours].

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of samples; each costs about 6 network evaluations per step and iteration.
        seed: random seed for sampling.
        num_steps: number of sampling steps.
        num_iterations: power iterations from one start; the norm is a lower bound.
    """

    def __init__(
        self, every_n_steps: int = 500, num_rows: int = 1, seed: int = 0, num_steps: int = 4, num_iterations: int = 4
    ) -> None:
        super().__init__(every_n_steps, num_rows, seed)
        self.num_steps, self.num_iterations = num_steps, num_iterations

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        model = require_generator(self, model)
        length, prompt = batch.ids.shape[1], prompt_of(model, batch)
        result = generator_stiffness(model, stream_seeds(noise), self.num_steps, length, 1, self.num_iterations, prompt)
        return {"stiffness/peak": float(result.peak.mean()), "stiffness/total": float(result.total_norm.mean())}


def generator_stiffness(
    model: Generator,
    seeds: list[int],
    num_steps: int,
    length: int | None = None,
    num_starts: int = 3,
    num_iterations: int = 8,
    prompt: Prompt | None = None,
) -> StiffnessResult:
    """Stiffness of a generator's sampling map, with its sampler, sampling schedule and escape; with the order
    Blockwise, of the map of each block after the sample's own blocks before it, which are held fixed.

    Args:
        model: generator to sample from.
        seeds: random seeds, one per sample.
        num_steps: number of sampling steps.
        length: number of latents; default: the training length.
        num_starts: starting directions of the power iteration.
        num_iterations: power iterations per start.
        prompt: prompt of the samples; its positions are held fixed.
    """
    z, noise = model.initial_noise(seeds, length)
    text = None
    if model.order.block_size(model.sampling_net):
        text = model.sample(seeds, num_steps, length=length, prompt=prompt).trace.z
    return sampler_stiffness(
        lambda streams: model.denoiser(escape=model.escape, noise=streams, prompt=prompt, start=z, text=text),
        model.sampler,
        model.path,
        model.sampling_schedule.grid(num_steps, t_min=model.path.t_min, t_max=model.path.t_max),
        z,
        noise,
        probes=Noise([seed + 1 for seed in seeds]),
        prompt=None if prompt is None else prompt.latents,
        prompt_mask=None if prompt is None else prompt.mask,
        final_denoise=model.denoiser(prompt=prompt, start=z, text=text),
        num_starts=num_starts,
        num_iterations=num_iterations,
        batch_size=8 if prompt is None and text is None else len(z),
    )


def generator_cci(model: Generator, sample: Sample, noise: Noise, prompt: Prompt | None = None) -> float:
    """CCI of samples of a generator, over the positions outside the prompt.

    Args:
        model: generator of the samples.
        sample: samples of the model, with their trace.
        noise: one stream per sample.
        prompt: prompt of the samples.
    """
    fed, mask = collect_fed_ids(sample.trace), generated_mask(sample.ids, prompt)
    if own := model.readout.fed_ids(sample.ids):  # a readout that chooses token after token decides them all
        return cci(own, sample.ids, [1.0] * len(own), mask).value
    if not any(bool((ids >= 0).any()) and bool((ids >= 0)[mask].any()) for ids in fed):
        return 0.0
    if model.order.feeds_tokens:
        return cci(fed, sample.ids, [1.0] * len(fed), mask).value
    codes, seeds = model.denoiser(prompt=prompt).embed(sample.ids), stream_seeds(noise)
    denoise = model.denoiser(prompt=prompt, text=codes)
    decode = denoise.codec.decode_logits if model.codec.has_decoder else model.logits_fn(prompt)
    weights = [evidence_strength(decode, codes, mask, model.path, t, Noise(seeds)) for t in sample.trace.times]
    return cci(fed, sample.ids, weights, mask, model.order.block_size(model.sampling_net)).value


def generated_mask(ids: Ids, prompt: Prompt | None) -> Mask:
    """True at sampled tokens, False at prompt tokens."""
    return torch.ones_like(ids, dtype=torch.bool) if prompt is None else ~prompt.known


def require_generator(diagnostic: Diagnostic, model: Generator | Autoencoder) -> Generator:
    """Return the model if it draws samples; raise for an autoencoder."""
    require_latents(model)
    if isinstance(model, Autoencoder):
        name = type(diagnostic).__name__
        raise ValueError(f"{name} measures samples, and an autoencoder draws none: remove {name} from this recipe")
    return model
