"""Exact posterior of a Markov chain of tokens, each embedded as a Gaussian cloud, by Bayes' rule."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.noise import Noise
from textflow.oracle.chain import TINY, Chain
from textflow.paths.base import ProbPath
from textflow.types import AttentionMask, Conditioning, Ids, Latents, Logits, Mask, Posterior, Times

IMPOSSIBLE_LOG_LIK = -1e3  # log-likelihood of the other tokens at a prompt position


class GaussianAtoms(Codec):
    """Codec with latents E_v + tau xi for token v, xi standard normal; the readout decodes to the nearest E_v.

    Args:
        codes: embeddings E, [V, d].
        tau: standard deviation of a token's cloud, latent units; 0 gives exactly E_v.
    """

    codes: Tensor

    def __init__(self, codes: Float[Tensor, "V d"], tau: float = 0.0) -> None:
        super().__init__()
        self.vocab_size, self.dim = codes.shape
        self.tau = tau
        self.register_buffer("codes", codes)

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        """E_y, the mean of each token's cloud."""
        return self.codes[ids]

    def sample_latents(self, ids: Ids, noise: Noise) -> Latents:
        """E_y + tau xi."""
        return self.codes[ids] + self.tau * noise.normal(ids.shape[1], self.dim).to(self.codes)

    def decode_logits(self, z: Latents) -> Logits:
        codes = self.codes.to(z.dtype)
        return z @ codes.T - (codes**2).sum(-1) / 2

    @property
    def is_trained(self) -> bool:
        return True


class PerPositionDenoiser(Denoiser, ABC):
    """Denoiser with a separate time for each position."""

    @abstractmethod
    def posterior(self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()) -> Posterior:
        """The posterior of latents of mixed noise.

        Args:
            z: latents, each position noised to its time.
            t: time of each position, in [0, 1].
            cond: prompt; other conditioning is ignored.
        """

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return self.posterior(z, t if t.ndim == 2 else t[:, None].expand(z.shape[:2]), cond)


class ExactPosterior(PerPositionDenoiser):
    """Exact posterior by Bayes' rule in float64; it ignores guidance and self-conditioning."""

    def __init__(self, prior: Chain, codec: GaussianAtoms, path: ProbPath) -> None:
        super().__init__()
        self.prior, self.codec, self.path, self.dim = prior, codec, path, codec.dim

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()) -> Posterior:
        return self.posterior_from_gamma(self.prior.posterior(self.log_likelihood(z, t, cond)), z, t, cond)

    def sample_joint(
        self, z: Latents, t: Float[Tensor, "B S"], noise: Noise, cond: Conditioning = Conditioning()
    ) -> Ids:
        """Sample texts jointly from p(y | z), a readout that is exact at any number of steps, even at t = 0."""
        return self.prior.sample_posterior(self.log_likelihood(z, t, cond), noise)

    def log_likelihood(
        self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()
    ) -> Float[Tensor, "B S V"]:
        """log p(z_l | y_l = v) + const = (a z.E_v - a^2 |E_v|^2 / 2) / (a^2 tau^2 + sigma^2).

        A prompt position holds the token whose code is nearest to the prompt's latent.
        """
        a, var = self._scale(t)
        codes = self.codec.codes.double()
        loglik = (a * (z.double() @ codes.T) - a**2 * (codes**2).sum(-1) / 2) / var
        if cond.prompt_mask is None or cond.prompt is None:
            return loglik
        prompt_ids = self.codec.decode_logits(cond.prompt.double()).argmax(-1, keepdim=True)
        one_hot = torch.full_like(loglik, IMPOSSIBLE_LOG_LIK).scatter(-1, prompt_ids, 0.0)
        return torch.where(cond.prompt_mask[..., None], one_hot, loglik)

    def posterior_from_gamma(
        self, gamma: Float[Tensor, "B S V"], z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()
    ) -> Posterior:
        """x_hat = c + (a tau^2 / var) (z - a c), c = gamma E, and log gamma; at a prompt the mean is the prompt."""
        a, var = self._scale(t)
        center = gamma @ self.codec.codes.double()
        mean = center + a * self.codec.tau**2 / var * (z.double() - a * center)
        if cond.prompt_mask is not None and cond.prompt is not None:
            mean = torch.where(cond.prompt_mask[..., None], cond.prompt.double(), mean)
        return Posterior(mean.to(z.dtype), gamma.clamp_min(TINY).log().to(z.dtype))

    def _scale(self, t: Float[Tensor, "B S"]) -> tuple[Float[Tensor, "B S 1"], Float[Tensor, "B S 1"]]:
        """alpha and the variance of z around alpha E, clamped above 0 at t = 1."""
        a, sigma = self.path.alpha(t.double()[..., None]), self.path.sigma(t.double()[..., None])
        return a, ((a * self.codec.tau) ** 2 + sigma**2).clamp_min(1e-12)
