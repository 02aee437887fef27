"""Head start: no call where z tells nothing."""

from dataclasses import dataclass

import torch

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler, levels
from textflow.samplers.euler import Euler
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class HeadStart(Sampler):
    """`sampler`, but the first step only scales the noise: z_u = (sigma_u / sigma_0) z, K + 1 steps for K calls [ours].

    At t = 0 the belief is the mean of all text whatever z is; it is taken for 0, as latents are centred. A single step
    is left to the sampler.

    Args:
        sampler: of the other steps.
    """

    sampler: Sampler = Euler()

    def step(
        self,
        denoise: Denoise,
        path: Path,
        z: Latents,
        t: float,
        u: float,
        prev: Latents | None,
        noise: Noise,
        since: float | None = None,
    ) -> tuple[Latents, Posterior]:
        if t > 0 or u >= 1:
            return self.sampler.step(denoise, path, z, t, u, prev, noise, since)
        return z * (levels(path, u)[1] / levels(path, t)[1]), Posterior(torch.zeros_like(z))
