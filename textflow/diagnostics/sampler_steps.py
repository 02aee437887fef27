"""A sampling run as a chain of deterministic maps: one a step, around the states that it met, with its noise held."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler, ending
from textflow.types import Choice, Denoise, Latents, Posterior


def copied(noise: Noise, rows: slice = slice(None)) -> Noise:
    """The streams of some rows as they stand; drawing from the copy leaves the original alone."""
    copy = Noise([])
    copy.streams = [stream.clone_state() for stream in noise.streams[rows]]
    return copy


@dataclass(frozen=True)
class Step:
    """One step of a walk, a deterministic map: `noise` stands as it did before the step."""

    denoiser: Callable[[Noise], Denoise]
    sampler: Sampler
    path: Path
    t: float
    u: float
    since: float | None
    keep: Callable[[Latents], Latents]
    noise: Noise
    z: Latents
    prev: Latents | None

    def run(self, z: Latents, prev: Latents | None, noise: Noise) -> tuple[Latents, Posterior]:
        """(z, prev) -> the next z, and the belief handed on."""
        ask = ending(self.denoiser(noise), self.u)
        z, belief = self.sampler.step(ask, self.path, self.keep(z), self.t, self.u, prev, noise, self.since)
        return self.keep(z), belief._replace(mean=self.keep(belief.mean))

    def go(self, z: Latents) -> Latents:
        """z -> the next z, prev as it was."""
        return self.run(z, self.prev, copied(self.noise))[0]

    def pair(self, z: Latents, prev: Latents) -> tuple[Latents, Latents]:
        """(z, prev) -> (z, prev) of the next step. Where no belief was handed on, prev is not looked at."""
        z, belief = self.run(z, None if self.prev is None else prev, copied(self.noise))
        return z, belief.mean

    def choose(self, z: Latents) -> Int[Tensor, "B S"] | None:
        """What is chosen on the way, None without an escape."""
        return self.run(z, self.prev, copied(self.noise))[1].chosen


def walk(
    denoiser: Callable[[Noise], Denoise],
    sampler: Sampler,
    path: Path,
    times: list[float],
    z: Latents,
    noise: Noise,
    clean: Latents | None = None,
    fixed: Choice | None = None,
    last: Denoise | None = None,
) -> list[Step]:
    """The steps of `sample`, each as a map around the state that it met. Arguments as there and in `stiffness`."""

    def keep(x: Latents) -> Latents:
        return x if fixed is None or clean is None else torch.where(fixed[..., None], clean, x)

    z, prev, since, steps = keep(z), None if fixed is None else keep(torch.zeros_like(z)), None, []
    for t, u in pairwise(times):
        ask = denoiser if last is None or u < 1 else lambda _: last
        steps.append(Step(ask, sampler, path, t, u, since, keep, copied(noise), z, prev))
        z, belief = steps[-1].run(z, prev, noise)
        prev, since = belief.mean, t
    return steps
