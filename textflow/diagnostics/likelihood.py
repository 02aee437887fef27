"""Likelihood of text under a flow on embeddings: the variational bound, and the probability-flow ODE.

Both follow the eval mode of LangFlow (2604.11748): each evaluation of the net is self-conditioned on its own first
prediction, without gradient, and tokens are read at the clean end of the schedule. Sums are over text, in nats.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.paths.variance_preserving import VariancePreserving
from textflow.schedules.gumbel import Gumbel
from textflow.types import Batch, Conditioning, Latents, Posterior

PATH = VariancePreserving()


class Likelihood(NamedTuple):
    """-log p of each row, nats, float64 [B].

    Args:
        nll: sum of the parts.
        reconstruction: -log p(tokens | z) at the clean end.
        integral: what the noise levels in between add.
        prior: what the noisy end adds.
    """

    nll: Float[Tensor, " B"]
    reconstruction: Float[Tensor, " B"]
    integral: Float[Tensor, " B"]
    prior: Float[Tensor, " B"]


class Scored(NamedTuple):
    """Subject of a likelihood.

    Args:
        net: denoiser that gives token logits.
        codec: codec of its latents.
        law: its time schedule, whose ends are those of the likelihood.
        batch: text.
    """

    net: Denoiser
    codec: Codec
    law: Gumbel
    batch: Batch

    def belief(self, z: Latents, t: Tensor) -> Posterior:
        """The belief at z_t, conditioned on the net's first prediction there."""
        with torch.no_grad():
            first = self.net(z.detach(), t).mean
        return self.net(z, t, Conditioning(self_cond=first))

    def reconstruction(self, x: Latents, eps: Latents) -> tuple[Latents, Float[Tensor, " B"]]:
        """z at the clean end, and -log p(tokens | z)."""
        t = x.new_full((len(x),), -self.law.gamma_min)
        z = PATH.mix(x, eps, t)
        logits = self.net.belief_logits(self.belief(z, t))
        if logits is None:
            raise ValueError(f"a likelihood needs a net that gives token logits; {type(self.net).__name__} gives none")
        nll = F.cross_entropy(logits.mT.float(), self.batch.ids, reduction="none")
        return z, (nll.double() * self.batch.mask).sum(1)

    def total(self, values: Tensor) -> Float[Tensor, " B"]:
        """Sum of values [B, L, d] over the text of each row."""
        return (values.double() * self.batch.mask[..., None]).sum((1, 2))


@torch.no_grad()
def variational_nll(
    scored: Scored, eps0: Latents, u: Float[Tensor, "n B"], eps: Float[Tensor, "n B L d"]
) -> Likelihood:
    """The variational bound: the mean of exp(-gamma) / (2 pdf(gamma)) |x_hat - x|^2 over noise levels of the schedule.

    Args:
        scored: net and text.
        eps0: standard normal noise of the clean end [B, L, d].
        u: quantiles of the noise levels, in (0, 1).
        eps: their standard normal noise.
    """
    law, x = scored.law, scored.codec.encode(scored.batch.ids, scored.batch.mask)
    reconstruction = scored.reconstruction(x, eps0)[1]
    integral = torch.zeros_like(reconstruction)
    for quantile, noise in zip(u, eps, strict=True):
        t = law.released_icdf(quantile.clamp(law.cutoff, 1 - law.cutoff)).to(x)
        error = scored.total((scored.belief(PATH.mix(x, noise, t), t).mean - x).square())
        integral += (t - law.log_pdf(t)).double().exp() * error / 2 / len(u)
    prior = math.exp(-law.gamma_max) / 2 * scored.total(x.square())
    return Likelihood(reconstruction + integral + prior, reconstruction, integral, prior)


def flow_nll(
    scored: Scored,
    eps: Latents,
    probe: Callable[[], Latents],
    num_steps: int = 128,
    method: Literal["euler", "heun"] = "heun",
) -> Likelihood:
    """-log p by the probability-flow ODE, dy / dr = x_hat, y = z / sigma and r = alpha / sigma, from the clean end to
    the noisy one; the divergence by Hutchinson's estimator, sigma u^T (dx_hat / dz) u.

    Args:
        scored: net and text.
        eps: standard normal noise of the clean end [B, L, d].
        probe: draws a standard normal u [B, L, d]; called once an evaluation.
        num_steps: number of steps on the schedule's quantiles.
        method: `euler`, one evaluation per step, or `heun`, two.
    """
    with torch.no_grad():
        x = scored.codec.encode(scored.batch.ids, scored.batch.mask)
        z, reconstruction = scored.reconstruction(x, eps)
    cutoff = scored.law.cutoff
    times = scored.law.released_icdf(torch.linspace(0, 1, num_steps + 1).clamp(cutoff, 1 - cutoff)).tolist()
    y = z.double() / PATH.sigma(z.new_tensor(-scored.law.gamma_min, dtype=torch.float64))
    divergence = torch.zeros_like(reconstruction)
    for t, t_next in zip(times, times[1:], strict=False):
        h, (slope, growth) = math.exp(t_next / 2) - math.exp(t / 2), flow_slope(scored, y, t, probe())
        if method == "heun":
            ahead, ahead_growth = flow_slope(scored, y + h * slope, t_next, probe())
            slope, growth = (slope + ahead) / 2, (growth + ahead_growth) / 2
        y, divergence = y + h * slope, divergence + h * growth
    numel = scored.batch.mask.double().sum(1) * y.shape[-1]
    prior = (scored.total(y.square()) - numel) / 2
    return Likelihood(reconstruction - divergence + prior, reconstruction, -divergence, prior)


def flow_slope(scored: Scored, y: Latents, t: float, u: Latents) -> tuple[Latents, Float[Tensor, " B"]]:
    """x_hat at y, and sigma u^T (dx_hat / dz) u over the text, float64."""
    u, time = u * scored.batch.mask[..., None], u.new_full((len(u),), t)
    sigma = float(PATH.sigma(torch.tensor(t, dtype=torch.float64)))
    with torch.enable_grad():
        z = (sigma * y).to(u.dtype).requires_grad_()
        mean = scored.belief(z, time).mean
        (pulled,) = torch.autograd.grad((mean * u).sum(), z)
    return mean.detach().double(), sigma * scored.total(pulled * u)
