"""Exact posterior over a bank of real latents: a denoiser that needs no training."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.paths.base import ProbPath
from textflow.types import Latents, Posterior

CHUNK = 256  # latents at a time


class EmpiricalPosterior:
    """Denoiser E[x | z_t] under the uniform law on a bank of real latents, each latent by itself [ours].

    Its residual points between data points, as that of a trained denoiser does and that of a Gaussian one does not.

    Args:
        bank: real latents of other text than the denoised, N x d float64 values in memory.
        path: probability path between noise and text.
    """

    def __init__(self, bank: Float[Tensor, "N d"], path: ProbPath) -> None:
        if not len(bank):
            raise ValueError("the bank of latents is empty; an empirical posterior needs at least one")
        self.bank, self.path = bank.double(), path

    def __call__(
        self, z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior:
        """Posterior means of latents at time t; the arguments after it are not used."""
        alpha, sigma = self.path.alpha_sigma(t)
        parts = [self.mean(part.double(), alpha, sigma) for part in torch.split(z.flatten(0, 1), CHUNK)]
        return Posterior(torch.cat(parts).reshape(z.shape).to(z))

    def mean(self, z: Float[Tensor, "n d"], alpha: float, sigma: float) -> Float[Tensor, "n d"]:
        """Bank weighted by exp(-|z - alpha b|^2 / (2 sigma^2)); the nearest latent for sigma 0."""
        log_weights = alpha * (z @ self.bank.T) - alpha**2 / 2 * (self.bank**2).sum(-1)  # [n, N]
        variance = max(sigma**2, torch.finfo(torch.float64).tiny)
        lead = log_weights - log_weights.amax(-1, keepdim=True)  # first the difference: no overflow for sigma 0
        return (lead / variance).softmax(-1) @ self.bank
