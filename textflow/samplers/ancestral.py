"""Samplers that put the belief back under noise: old and fresh noise, or little fresh noise."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State, ask
from textflow.types import Denoise, Posterior


@dataclass(frozen=True)
class Ancestral(Sampler):
    """z_next = alpha_next x + sigma_next (rho e + sqrt(1 - rho^2) fresh), e = (z - alpha x) / sigma, x the belief's
    mean (DDIM, 2010.02502, eq. 12, with eta in rho): the ODE, ancestral and consistency sampling are one update. The
    step to the clean end returns the mean.

    With the escape Commit: mode commit (rho ancestral), or only where the network is unsure (gate LowConfidence, rho 1,
    committed_noise_correlation 0).

    Args:
        noise_correlation: rho, correlation of new and old noise, in [0, 1]: 1 is the ODE, 0 draws all noise afresh
            (consistency sampling), `ancestral` is alpha sigma_next / (alpha_next sigma), the path's own (DDPM).
        committed_noise_correlation: rho at the positions that an escape has committed; default: noise_correlation.
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
        (alpha, sigma), (alpha_next, sigma_next) = path.alpha_sigma(t), path.alpha_sigma(t_next)
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


@dataclass(frozen=True)
class LowNoiseResample(Sampler):
    """z_next = alpha x + noise_fraction sigma eps, x the belief's mean: the network corrects an escape's tokens [ours].

    The network takes z_next for text under all of sigma, so that it trusts no token more than its neighbours, while
    little fresh noise hides them. Use a grid that hardly moves: the flip-rate schedule from .2 to .15. The first step
    gives z the spread of noised text, sigma^2 + alpha^2 (1 - x^2), as latents have unit variance; x alone lacks it.

    Args:
        noise_fraction: fraction of the path's noise, in [0, 1]; 0 is for beliefs that are sharp but not tokens
            (Sharpen).
    """

    noise_fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.noise_fraction <= 1:
            raise ValueError(
                f"noise_fraction = {self.noise_fraction}: LowNoiseResample needs a number in [0, 1]; Ancestral has "
                "all of the path's noise"
            )

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        belief = ask(denoise, state, t_next)
        x = belief.mean
        if t_next >= path.t_max:
            return state.next(x, t_next, belief)
        fresh, (alpha, sigma) = noise.normal_like(state.z), path.alpha_sigma(t_next)
        if state.t <= path.t_min:
            spread = (sigma**2 + alpha**2 * (1 - x**2).clamp_min(0)).sqrt()
            return state.next(alpha * x + spread * fresh, t_next, belief)
        return state.next(alpha * x + self.noise_fraction * sigma * fresh, t_next, belief)
