"""Response of a model's last map to constructed errors of its input, against random errors of equal length."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from textflow.diagnostics.bootstrap import Ratio, SampleSize, ratio_of_means
from textflow.diagnostics.empirical_posterior import EmpiricalPosterior
from textflow.diagnostics.perturbation import Basis, Control, MeasureFn, compare_directions, covariance_root
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.types import Latents, Mask

SampleLatents: TypeAlias = Float[Tensor, "1 _ d"]  # samples differ in their number of latents
Sample: TypeAlias = tuple[SampleLatents, Bool[Tensor, "1 _"]]
CONTROLS: Mapping[str, Control] = {"isotropic": "full", "covariance": "covariance", "shuffled": "shuffled"}
LENGTHS = (0.1, 0.3, 1.0)  # of an error, in standard deviations of the latents


@dataclass(frozen=True)
class ErrorResponse:
    """Response to one kind of error.

    Args:
        error: `boundary`, along the normal of the nearest decision boundary; or `empirical posterior`, the residual of
            the exact posterior over the latents of other samples, under noise of the length.
        length: length of the error, or of the noise, in standard deviations of the latents.
        mean_length: mean length of the error, in the same unit.
        ratios: by control, the response along the error over that in random directions of equal length (DABI).
    """

    error: str
    length: float
    mean_length: float
    ratios: dict[str, Ratio]


@dataclass(frozen=True, eq=False)
class ErrorProbe:
    """Samples, and what is measured on them.

    Args:
        samples: latents [1, S, d] of each text or image, and the mask of those that count.
        measure: (latents, mask) of a sample -> function that measures perturbed latents against them.
        seeds: random seed of each sample.
        counts_events: True if the measurement counts events, such as flips.
        num_draws: number of random directions per position.
    """

    samples: Sequence[Sample]
    measure: Callable[[Latents, Mask], MeasureFn]
    seeds: Sequence[int]
    counts_events: bool
    num_draws: int = 4

    @cached_property
    def latents(self) -> Float[Tensor, "N d"]:
        """Latents that count, of all samples."""
        return torch.cat([x[mask] for x, mask in self.samples])

    @cached_property
    def std(self) -> float:
        """Standard deviation of a latent, over all its coordinates together."""
        return float(self.root.square().sum().sqrt())

    @cached_property
    def root(self) -> Basis:
        """Root of the latents' covariance."""
        return covariance_root(self.latents)

    @torch.no_grad()
    def respond(self, error: str, length: float, moved: Sequence[SampleLatents], first: int = 0) -> ErrorResponse:
        """Response of the samples from a first one on to their moved latents."""
        samples, seeds = self.samples[first:], self.seeds[first:]
        counts = torch.stack([mask.double().sum().cpu() for _, mask in samples])
        size, ratios = SampleSize(int(counts.sum()), len(samples), self.num_draws), {}
        measures = [self.measure(x, mask) for x, mask in samples]
        for name, control in CONTROLS.items():
            parts = [
                compare_directions(measure, x, to, mask, Noise([seed + 1]), 1.0, self.num_draws, control, self.root)
                for measure, (x, mask), to, seed in zip(measures, samples, moved, seeds, strict=True)
            ]
            along, random = (torch.cat([part[i][0] for part in parts]) for i in (0, 1))
            ratios[name] = ratio_of_means(along, random, counts, size, counts_events=self.counts_events)
        errors = torch.cat([(to - x)[mask].norm(dim=-1) for (x, mask), to in zip(samples, moved, strict=True)])
        return ErrorResponse(error, length, float(errors.mean()) / self.std, ratios)

    def empirical(self) -> list[ErrorResponse]:
        """Responses of the second half of the samples, with the first half as the bank; none for a single sample."""
        half = len(self.samples) // 2
        if not half:
            return []
        bank = torch.cat([x[mask] for x, mask in self.samples[:half]])
        responses = []
        for length in LENGTHS:
            path = LinearPath(noise_scale=length * self.std / bank.shape[-1] ** 0.5)  # z / alpha = x + noise
            denoise = EmpiricalPosterior(bank, path)
            moved = [
                denoise(path.mix(x, Noise([seed]).normal_like(x), 0.5), 0.5).mean
                for (x, _), seed in zip(self.samples[half:], self.seeds[half:], strict=True)
            ]
            responses.append(self.respond("empirical posterior", length, moved, half))
        return responses
