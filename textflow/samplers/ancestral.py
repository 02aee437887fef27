"""Part of the old noise, part fresh noise: the ODE, ancestral sampling and consistency sampling are one update."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler, levels
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class Renoise(Sampler):
    """z_u = alpha_u x + sigma_u (rho e + sqrt(1 - rho^2) fresh), e = (z - alpha_t x) / sigma_t, x the belief's mean
    (DDIM, 2010.02502, eq. 12, with eta in rho); the step to u = 1 returns the mean.

    With the escape Commit: mode commit (rho ancestral), or in the tube only (gate Tube, rho 1, inside 0).

    Args:
        rho: share of the old noise, in [0, 1]: 1 is the ODE, 0 noises the mean afresh (consistency sampling),
            `ancestral` is alpha_t sigma_u / (alpha_u sigma_t), which keeps the law of the path (DDPM).
        inside: rho at the positions that an escape has chosen; default: the same.
    """

    rho: float | Literal["ancestral"] = "ancestral"
    inside: float | Literal["ancestral"] | None = None

    def __post_init__(self) -> None:
        for name, rho in (("rho", self.rho), ("inside", self.inside)):
            if isinstance(rho, (int, float)) and not 0 <= rho <= 1:
                raise ValueError(f"{name} = {rho}: Renoise needs a number in [0, 1] or `ancestral`")

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
        if self.rho == 1 and self.inside in (None, 1):
            return path.step(z, belief.mean, t, u), belief
        if u >= 1:
            return belief.mean, belief
        fresh = noise.normal_like(z)  # for all positions: the streams are used alike whatever was chosen
        (alpha, sigma), (alpha_u, sigma_u) = levels(path, t), levels(path, u)
        rho = self.kept(belief, alpha * sigma_u / (alpha_u * sigma))[..., None]
        old = (z - alpha * belief.mean) / sigma
        mixed = rho.to(z) * old + (1 - rho**2).sqrt().to(z) * fresh
        return alpha_u * belief.mean + sigma_u * mixed, belief

    def kept(self, belief: Posterior, ancestral: float) -> Float[Tensor, "B S"]:
        """rho of each position, float64."""
        outside = ancestral if self.rho == "ancestral" else self.rho
        rho = torch.full(belief.mean.shape[:2], outside, dtype=torch.float64, device=belief.mean.device)
        if belief.chosen is None or self.inside is None:
            return rho
        return rho.masked_fill(belief.chosen >= 0, ancestral if self.inside == "ancestral" else self.inside)
