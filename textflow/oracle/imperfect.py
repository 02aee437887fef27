"""Imperfect denoisers: what a trained network gets wrong, with the posterior still written down."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.base import Exact, Timed
from textflow.oracle.chain import TINY, Chain
from textflow.types import Given, Latents, Posterior

WAVES = 64  # random waves that the error field is made of


class Imperfect(Timed):
    """gamma' ~ gamma_lam^beta exp(error g): an exact denoiser made forgetful, sharp and wrong [ours].

    lam = 0, beta = 1, error = 0 is the exact one. The mean belongs to gamma', so that both readouts err alike.

    Args:
        exact: the denoiser that knows.
        lam: share of context forgotten, in [0, 1]: the prior moves by (1 - lam) P + lam pi.
        beta: power that the token posterior is raised to, > 0; above 1 it is sharper than it should be.
        error: size of the error in the logits, nats (root mean square).
        seed: of the error field g, a fixed smooth function of each position's latent.
    """

    waves: Tensor
    phase: Tensor
    heights: Tensor

    def __init__(self, exact: Exact, lam: float = 0.0, beta: float = 1.0, error: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= lam <= 1 or beta <= 0:
            raise ValueError(f"Imperfect got lam = {lam} and beta = {beta}; it needs lam in [0, 1] and beta above 0")
        self.exact, self.dim, self.beta, self.error = exact, exact.dim, beta, error
        self.prior = underfit(exact.prior, lam)
        noise, vocab = Noise([seed]), exact.prior.vocab
        self.register_buffer("waves", noise.normal(self.dim, WAVES)[0].double() * (2 / self.dim) ** 0.5)
        self.register_buffer("phase", 2 * torch.pi * noise.uniform(WAVES)[0])
        self.register_buffer("heights", noise.normal(WAVES, vocab)[0].double() * (2 / WAVES) ** 0.5)

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], given: Given = Given()) -> Posterior:
        gamma = self.prior.posterior(self.exact.evidence(z, t, given))
        if self.beta != 1 or self.error:
            gamma = (self.beta * gamma.clamp_min(TINY).log() + self.error * self.field(z, t)).softmax(-1)
        return self.exact.belief(gamma, z, t, given)

    def field(self, z: Latents, t: Float[Tensor, "B S"]) -> Float[Tensor, "B S V"]:
        """g: random waves in the latent scaled to unit variance; about standard normal over latents and tokens."""
        a, sigma = self.exact.path.alpha(t.double()), self.exact.path.sigma(t.double())
        unit = z.double() / (a**2 + sigma**2).sqrt()[..., None]
        return (unit @ self.waves + self.phase).cos() @ self.heights


def underfit(prior: Chain, lam: float) -> Chain:
    """The chain with transitions (1 - lam) P + lam pi, pi its initial law (in the worlds: the stationary one).

    Args:
        prior: the true chain.
        lam: share of context forgotten, in [0, 1].
    """
    law = (1 - lam) * prior.transition + lam * prior.initial
    return Chain(prior.initial, law, prior.emission, prior.topic, prior.legal)
