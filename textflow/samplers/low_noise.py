"""Look again: what is believed is put back nearly without noise, and the network corrects it."""

from dataclasses import dataclass

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler, levels
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class Relook(Sampler):
    """z_u = alpha_u x + noise sigma_u fresh, x the belief's mean: a second look at the tokens of an escape [ours].

    The network takes z_u for text under all of sigma_u, so that it trusts no token more than its neighbours, while
    little fresh noise hides them. The grid hardly moves: the flip clock from .2 to .15. The first step gives z the
    spread of noised text, sigma_u^2 + alpha_u^2 (1 - x^2), as latents have unit variance; x alone lacks it at t = 0.

    Args:
        noise: share of the path's noise, in [0, 1]; 0 is for beliefs that are sharp but no tokens (Sharpen).
    """

    noise: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise = {self.noise}: Relook needs a share in [0, 1]; Renoise has all of the path's")

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
        x = belief.mean
        if u >= 1:
            return x, belief
        fresh, (alpha, sigma) = noise.normal_like(z), levels(path, u)
        if t <= 0:
            return alpha * x + (sigma**2 + alpha**2 * (1 - x**2).clamp_min(0)).sqrt() * fresh, belief
        return alpha * x + self.noise * sigma * fresh, belief
