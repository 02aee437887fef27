"""Worlds whose posterior is known: a chain of tokens, a Gaussian cloud a token, and Bayes' rule."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.noise import Noise
from textflow.oracle.chain import TINY, Chain
from textflow.paths.base import Path
from textflow.types import Given, Ids, Latents, Logits, Mask, Posterior, Sight, Times

RULED_OUT = -1e3  # log-likelihood of the tokens that a fixed position does not hold


class Atoms(Codec):
    """Token v lies at E_v + tau xi, xi standard normal; the readout takes the nearest E_v.

    Args:
        codes: E, [V, d].
        tau: standard deviation of a token's cloud, in units of the latents; 0 puts it on E_v.
    """

    codes: Tensor

    def __init__(self, codes: Float[Tensor, "V d"], tau: float = 0.0) -> None:
        super().__init__()
        self.vocab, self.dim = codes.shape
        self.tau = tau
        self.register_buffer("codes", codes)

    def encode(self, ids: Ids, mask: Mask | Sight | None = None) -> Latents:
        """E_y, the middle of each token's cloud."""
        return self.codes[ids]

    def latents(self, ids: Ids, noise: Noise) -> Latents:
        """E_y + tau xi.

        Args:
            ids: tokens.
            noise: one stream a row.
        """
        return self.codes[ids] + self.tau * noise.normal(ids.shape[1], self.dim).to(self.codes)

    def readout(self, z: Latents) -> Logits:
        codes = self.codes.to(z.dtype)
        return z @ codes.T - (codes**2).sum(-1) / 2

    @property
    def ready(self) -> bool:
        return True


class Timed(Denoiser, ABC):
    """A denoiser whose every position may have its own time."""

    @abstractmethod
    def posterior(self, z: Latents, t: Float[Tensor, "B S"], given: Given = Given()) -> Posterior:
        """
        Args:
            z: latents, position l at its time.
            t: times.
            given: a prompt; the rest says nothing new.
        """

    def forward(self, z: Latents, t: Times, given: Given = Given()) -> Posterior:
        return self.posterior(z, t[:, None].expand(z.shape[:2]), given)


class Exact(Timed):
    """The posterior itself, by Bayes' rule in float64; there is nothing to guide and nothing to tell it again.

    Args:
        prior: of the texts.
        codec: of their latents.
        path: how latents become noise.
    """

    def __init__(self, prior: Chain, codec: Atoms, path: Path) -> None:
        super().__init__()
        self.prior, self.codec, self.path, self.dim = prior, codec, path, codec.dim

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], given: Given = Given()) -> Posterior:
        return self.belief(self.prior.posterior(self.evidence(z, t, given)), z, t, given)

    def joint(self, z: Latents, t: Float[Tensor, "B S"], noise: Noise, given: Given = Given()) -> Ids:
        """Texts from p(y | z), jointly: the readout that is exact at any number of steps, even at t = 0.

        Args:
            z: latents, position l at its time.
            t: times.
            noise: one stream a row.
            given: a prompt.
        """
        return self.prior.draw(self.evidence(z, t, given), noise)

    def evidence(self, z: Latents, t: Float[Tensor, "B S"], given: Given = Given()) -> Float[Tensor, "B S V"]:
        """log p(z_l | y_l = v) + const = (a z.E_v - a^2 |E_v|^2 / 2) / (a^2 tau^2 + sigma^2).

        A fixed position holds the token whose code is nearest to the prompt's latent.
        """
        a, var = self._scale(t)
        codes = self.codec.codes.double()
        loglik = (a * (z.double() @ codes.T) - a**2 * (codes**2).sum(-1) / 2) / var
        if given.fixed is None or given.clean is None:
            return loglik
        held = self.codec.readout(given.clean.double()).argmax(-1, keepdim=True)
        one_hot = torch.full_like(loglik, RULED_OUT).scatter(-1, held, 0.0)
        return torch.where(given.fixed[..., None], one_hot, loglik)

    def belief(
        self, gamma: Float[Tensor, "B S V"], z: Latents, t: Float[Tensor, "B S"], given: Given = Given()
    ) -> Posterior:
        """x_hat = c + (a tau^2 / var) (z - a c), c = gamma E, and log gamma; a prompt is its own mean."""
        a, var = self._scale(t)
        middle = gamma @ self.codec.codes.double()
        mean = middle + a * self.codec.tau**2 / var * (z.double() - a * middle)
        if given.fixed is not None and given.clean is not None:
            mean = torch.where(given.fixed[..., None], given.clean.double(), mean)
        return Posterior(mean.to(z.dtype), gamma.clamp_min(TINY).log().to(z.dtype))

    def _scale(self, t: Float[Tensor, "B S"]) -> tuple[Float[Tensor, "B S 1"], Float[Tensor, "B S 1"]]:
        """alpha and the variance of z around alpha E, kept above 0 at t = 1."""
        a, sigma = self.path.alpha(t.double()[..., None]), self.path.sigma(t.double()[..., None])
        return a, ((a * self.codec.tau) ** 2 + sigma**2).clamp_min(1e-12)
