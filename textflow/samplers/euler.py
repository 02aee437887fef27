"""The probability-flow ODE by Euler's rule."""

from dataclasses import dataclass

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class Euler(Sampler):
    """z <- z + (u - t) v; the step to u = 1 returns the posterior mean."""

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
        belief = denoise(z, t, prev)
        return path.step(z, belief.mean, t, u), belief
