"""Response of a model's last map to constructed errors of its input, against random errors of equal length."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from textflow.diagnostics.bootstrap import Ratio, SampleSize, Sums, ratio_of_means
from textflow.diagnostics.empirical_posterior import EmpiricalPosterior
from textflow.diagnostics.perturbation import Basis, Control, MeasureFn, covariance_root, sum_directions
from textflow.diagnostics.residual import residual
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.types import Latents, Mask

SampleLatents: TypeAlias = Float[Tensor, "_ _ d"]  # samples differ in their number of latents
Sample: TypeAlias = tuple[SampleLatents, Bool[Tensor, "_ _"]]
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
        samples: latents of each text [1, S, d], or of a batch of images [B, S, d], and the mask of those that count.
        measure: (latents, mask) of a sample -> function that measures perturbed latents against them.
        seeds: random seed of each text or image.
        counts_events: True if the measurement counts events, such as flips.
        num_draws: number of random directions per position.
        bank: latents of other texts or images for the empirical posterior and the covariance; default: those of the
            first half of the samples, and the covariance of all of them.
        lengths: lengths of the noise of the empirical posterior, in standard deviations of the latents.
    """

    samples: Sequence[Sample]
    measure: Callable[[Latents, Mask], MeasureFn]
    seeds: Sequence[int]
    counts_events: bool
    num_draws: int = 4
    bank: Float[Tensor, "N d"] | None = None
    lengths: Sequence[float] = LENGTHS

    @cached_property
    def latents(self) -> Float[Tensor, "N d"]:
        """Latents of the bank; without one, those that count of all samples."""
        return torch.cat([x[mask] for x, mask in self.samples]) if self.bank is None else self.bank

    @cached_property
    def streams(self) -> list[Sequence[int]]:
        """Random seeds of the rows of each sample."""
        ends = list(accumulate(len(x) for x, _ in self.samples))
        return [self.seeds[first:end] for first, end in zip([0, *ends], ends, strict=False)]

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
        samples, streams = self.samples[first:], self.streams[first:]
        counts = torch.cat([mask.double().sum(1).cpu() for _, mask in samples])
        size, sums = SampleSize(int(counts.sum()), len(counts), self.num_draws), list[list[Sums]]()
        for (x, mask), to, seeds in zip(samples, moved, streams, strict=True):
            measure, r = self.measure(x, mask), residual(x, to, mask)
            (along,) = measure(x + r)
            sums.append([along, *(self.random_sums(measure, x, r, mask, seeds, control) for control in CONTROLS)])
        along, *random = (torch.cat(parts) for parts in zip(*sums, strict=True))
        ratios = {
            name: ratio_of_means(along, each, counts, size, counts_events=self.counts_events)
            for name, each in zip(CONTROLS, random, strict=True)
        }
        errors = torch.cat([(to - x)[mask].norm(dim=-1) for (x, mask), to in zip(samples, moved, strict=True)])
        return ErrorResponse(error, length, float(errors.mean()) / self.std, ratios)

    def random_sums(
        self, measure: MeasureFn, x: SampleLatents, r: SampleLatents, mask: Mask, seeds: Sequence[int], control: str
    ) -> Sums:
        """Sums over random errors of one control; every control has the same random numbers, not those of the noise."""
        noise = Noise([seed + 1 for seed in seeds])
        return sum_directions(measure, x, r, mask, noise, 1.0, self.num_draws, CONTROLS[control], self.root)[0]

    def empirical(self) -> list[ErrorResponse]:
        """Responses to the residual of the empirical posterior; none for a single sample without a bank."""
        half = len(self.samples) // 2 if self.bank is None else 0
        if self.bank is None and not half:
            return []
        bank = torch.cat([x[mask] for x, mask in self.samples[:half]]) if self.bank is None else self.bank
        responses = []
        for length in self.lengths:
            path = LinearPath(noise_scale=length * self.std / bank.shape[-1] ** 0.5)  # z / alpha = x + noise
            denoise = EmpiricalPosterior(bank, path)
            moved = [
                denoise(path.mix(x, Noise(seeds).normal_like(x), 0.5), 0.5).mean
                for (x, _), seeds in zip(self.samples[half:], self.streams[half:], strict=True)
            ]
            responses.append(self.respond("empirical posterior", length, moved, half))
        return responses
