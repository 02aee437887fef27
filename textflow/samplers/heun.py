"""The probability-flow ODE at second order."""

from dataclasses import dataclass

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class Heun(Sampler):
    """Euler, then again with the mean of the velocities at both ends (two passes a step, one in the last)."""

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
        ahead = path.step(z, belief.mean, t, u)
        if u >= 1:
            return ahead, belief
        corrected = denoise(ahead, u, belief.mean)
        slope = path.velocity(z, belief.mean, t) + path.velocity(ahead, corrected.mean, u)
        return z + (u - t) / 2 * slope, corrected
