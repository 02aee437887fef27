"""Imperfect denoisers: typical errors of a trained network, in closed form."""

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.oracle.base import ExactPosterior, PerPositionDenoiser
from textflow.oracle.chain import TINY, Chain
from textflow.types import Conditioning, Latents, Posterior

NUM_WAVES = 64  # random waves that the error field is made of


class PerturbedPosterior(PerPositionDenoiser):
    """gamma' ~ gamma_lam^beta exp(error g): exact posterior with lost context, sharpening and logit error [ours].

    lam = 0, beta = 1, error = 0 is the exact one. The mean belongs to gamma', so that both readouts err alike.

    Args:
        exact: exact posterior to perturb.
        forget_share: share of context forgotten, in [0, 1]: the prior moves by (1 - lam) P + lam pi.
        beta: exponent of the token posterior, > 0; above 1 it is overconfident.
        logit_error: size of the error in the logits, nats (root mean square).
        seed: random seed of the error field g, a fixed smooth function of each position's latent.
    """

    waves: Tensor
    phase: Tensor
    amplitudes: Tensor

    def __init__(
        self,
        exact: ExactPosterior,
        forget_share: float = 0.0,
        beta: float = 1.0,
        logit_error: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= forget_share <= 1 or beta <= 0:
            given = f"forget_share = {forget_share} and beta = {beta}"
            raise ValueError(f"PerturbedPosterior got {given}; it needs forget_share in [0, 1] and beta above 0")
        self.exact, self.dim, self.beta, self.logit_error = exact, exact.dim, beta, logit_error
        self.prior = forget_context(exact.prior, forget_share)
        noise, vocab = Noise([seed]), exact.prior.vocab_size
        self.register_buffer("waves", noise.normal(self.dim, NUM_WAVES)[0].double() * (2 / self.dim) ** 0.5)
        self.register_buffer("phase", 2 * torch.pi * noise.uniform(NUM_WAVES)[0])
        self.register_buffer("amplitudes", noise.normal(NUM_WAVES, vocab)[0].double() * (2 / NUM_WAVES) ** 0.5)

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()) -> Posterior:
        gamma = self.prior.posterior(self.exact.log_likelihood(z, t, cond))
        if self.beta != 1 or self.logit_error:
            gamma = (self.beta * gamma.clamp_min(TINY).log() + self.logit_error * self.error_field(z, t)).softmax(-1)
        return self.exact.posterior_from_gamma(gamma, z, t, cond)

    def error_field(self, z: Latents, t: Float[Tensor, "B S"]) -> Float[Tensor, "B S V"]:
        """g: random waves in the latent scaled to unit variance; about standard normal over latents and tokens."""
        a, sigma = self.exact.path.alpha(t.double()), self.exact.path.sigma(t.double())
        unit = z.double() / (a**2 + sigma**2).sqrt()[..., None]
        return (unit @ self.waves + self.phase).cos() @ self.amplitudes


def forget_context(prior: Chain, forget_share: float) -> Chain:
    """The chain with transitions (1 - lam) P + lam pi, 0 <= lam <= 1; pi is its initial, here stationary law."""
    law = (1 - forget_share) * prior.transition + forget_share * prior.initial
    return Chain(prior.initial, law, prior.emission, prior.topic, prior.legal)
