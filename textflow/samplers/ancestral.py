"""Partly old, partly fresh noise: the ODE, ancestral sampling and consistency sampling are one update."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State, alpha_sigma, ask
from textflow.types import Denoise, Posterior


@dataclass(frozen=True)
class Ancestral(Sampler):
    """z_next = alpha_next x + sigma_next (rho e + sqrt(1 - rho^2) fresh), e = (z - alpha x) / sigma, x the belief's
    mean (DDIM, 2010.02502, eq. 12, with eta in rho); the step to the clean end returns the mean.

    With the escape Commit: mode commit (rho ancestral), or only where the network is unsure (gate LowConfidence, rho 1,
    committed_noise_correlation 0).

    Args:
        noise_correlation: rho, correlation of new and old noise, in [0, 1]: 1 is the ODE, 0 draws all noise afresh
            (consistency sampling), `ancestral` is alpha sigma_next / (alpha_next sigma), the path's own (DDPM).
        committed_noise_correlation: rho at the positions that an escape has committed; default: the same.
    """

    noise_correlation: float | Literal["ancestral"] = "ancestral"
    committed_noise_correlation: float | Literal["ancestral"] | None = None

    def __post_init__(self) -> None:
        for name in ("noise_correlation", "committed_noise_correlation"):
            rho = getattr(self, name)
            if isinstance(rho, (int, float)) and not 0 <= rho <= 1:
                raise ValueError(f"{name} = {rho}: Ancestral needs a number in [0, 1] or `ancestral`")

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        z, t, belief = state.z, state.t, ask(denoise, state, t_next)
        if self.noise_correlation == 1 and self.committed_noise_correlation in (None, 1):
            return state.next(path.step(z, belief.mean, t, t_next), t_next, belief)
        if t_next >= path.t_max:
            return state.next(belief.mean, t_next, belief)
        fresh = noise.normal_like(z)  # for all positions: the streams are used alike whatever was committed
        (alpha, sigma), (alpha_next, sigma_next) = alpha_sigma(path, t), alpha_sigma(path, t_next)
        rho = self.correlation(belief, alpha * sigma_next / (alpha_next * sigma))[..., None]
        old = (z - alpha * belief.mean) / sigma
        mixed = rho.to(z) * old + (1 - rho**2).sqrt().to(z) * fresh
        return state.next(alpha_next * belief.mean + sigma_next * mixed, t_next, belief)

    def correlation(self, belief: Posterior, ancestral: float) -> Float[Tensor, "B S"]:
        """rho of each position, float64."""
        outside = ancestral if self.noise_correlation == "ancestral" else self.noise_correlation
        rho = torch.full(belief.mean.shape[:2], outside, dtype=torch.float64, device=belief.mean.device)
        inside = self.committed_noise_correlation
        if belief.committed is None or inside is None:
            return rho
        return rho.masked_fill(belief.committed >= 0, ancestral if inside == "ancestral" else inside)
