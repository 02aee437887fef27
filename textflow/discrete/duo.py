"""Duo (2506.10892): uniform diffusion of tokens, which are the argmax of a Gaussian diffusion in a curriculum."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.discrete.base import DiscreteObjective, DiscreteSampler
from textflow.discrete.denoiser import TokenDenoiseFn, TokenDiT
from textflow.discrete.process import Process
from textflow.discrete.uniform import UniformProcess, gaussian_survival, nelbo, posterior
from textflow.noise import Noise
from textflow.samplers.categorical import sample_by_gumbel, sample_by_inversion
from textflow.types import Batch, Ids, Latents, Logits, Mask, Times


class Corrupted(NamedTuple):
    """A noised batch.

    Args:
        ids: corrupted token ids [B, L].
        tokens: input of the network: those ids, or probabilities of tokens [B, L, N].
        alpha: probability that a token is unchanged [B].
        rate: d alpha / dt towards text [B].
    """

    ids: Ids
    tokens: Ids | Logits
    alpha: Times
    rate: Times


class DuoObjective(DiscreteObjective):
    """The bound on -log p(text) of uniform diffusion; at first the network reads a softmax of Gaussian latents whose
    argmax is the corrupted token, which lowers the variance of the gradient (curriculum).

    Args:
        process: corruption after the curriculum.
        sampling_eps: smallest 1 - t in training, in (0, 1).
        curriculum_steps: number of steps of the curriculum; 0 leaves it out.
        gamma_min: log noise-to-signal ratio at t = 1 in the curriculum.
        gamma_max: log noise-to-signal ratio at t = 0 in the curriculum, above gamma_min.
        temperature: temperature of the softmax over the latents, above 0.
        antithetic_sampling: whether the times of a batch are stratified over [0, 1] or independent.
        loss_on_padding: whether padding counts in the loss, so that a text learns to end.
    """

    process: UniformProcess

    def __init__(
        self,
        process: UniformProcess = UniformProcess(),
        sampling_eps: float = 1e-3,
        curriculum_steps: int = 500_000,
        gamma_min: float = -3.55,
        gamma_max: float = -1.85,
        temperature: float = 1e-3,
        antithetic_sampling: bool = True,
        loss_on_padding: bool = False,
    ) -> None:
        super().__init__(process, sampling_eps, True, antithetic_sampling, loss_on_padding)
        if not gamma_min < gamma_max or temperature <= 0:
            raise ValueError(
                f"DuoObjective got gamma_min {gamma_min}, gamma_max {gamma_max} and temperature {temperature}; it "
                "needs gamma_min < gamma_max and a temperature above 0"
            )
        self.curriculum_steps, self.temperature = curriculum_steps, temperature
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def forward(self, net: TokenDiT, batch: Batch, step: int) -> dict[str, Tensor]:
        t = self.sample_times(torch.rand(len(batch.ids), dtype=torch.float64, device=batch.ids.device))
        fixed = batch.prompt_mask
        if net.training and step <= self.curriculum_steps and self.curriculum_steps:
            noisy = self.curriculum(batch.ids, t, torch.randn(*batch.ids.shape, net.vocab_size, device=t.device), fixed)
        else:
            uniform = torch.rand(batch.ids.shape, dtype=torch.float64, device=t.device)
            noisy = self.corrupt(batch.ids, t, uniform, self.process.stationary(batch.ids, net.vocab_size), fixed)
        return self.loss(net, batch, noisy)

    def corrupt(
        self, ids: Ids, t: Times, uniform: Float[Tensor, "B L"], stationary: Ids, fixed: Mask | None = None
    ) -> Corrupted:
        """Tokens of the uniform process.

        Args:
            ids: token ids [B, L].
            t: times [B]; 0 is noise, 1 is text.
            uniform: uniform numbers on [0, 1), one a token [B, L].
            stationary: tokens that replace the lost ones [B, L].
            fixed: True on tokens that are never replaced [B, L].
        """
        noisy = self.process.corrupt(ids, stationary, uniform, t)
        if fixed is not None:
            noisy = torch.where(fixed, ids, noisy)
        return Corrupted(noisy, noisy, self.process.survival(t), torch.full_like(t, 1 - self.process.eps))

    def curriculum(self, ids: Ids, t: Times, eps: Latents, fixed: Mask | None = None) -> Corrupted:
        """Argmax and softmax of sqrt(sigmoid(-gamma)) onehot + sqrt(sigmoid(gamma)) eps, gamma linear in t.

        Args:
            ids: token ids [B, L].
            t: times [B]; 0 is noise, 1 is text.
            eps: standard normal numbers [B, L, N].
            fixed: True on tokens that are never replaced [B, L].
        """
        n, span = eps.shape[-1], self.gamma_max - self.gamma_min
        gamma = self.gamma_min + (1 - t) * span
        latents = diffuse(ids, gamma, eps)
        tokens, noisy = (latents / self.temperature).softmax(-1), latents.argmax(-1)
        if fixed is not None:
            tokens = torch.where(fixed[..., None], F.one_hot(ids, n).to(eps), tokens)
            noisy = torch.where(fixed, ids, noisy)
        alpha, ahead = gaussian_survival(gamma, n), gaussian_survival(gamma + 1e-3, n)  # the published difference
        return Corrupted(noisy, tokens, alpha, -span * 1000 * (ahead - alpha))

    def loss(self, net: TokenDiT, batch: Batch, noisy: Corrupted) -> dict[str, Tensor]:
        """The bound for a noised batch, a mean over the tokens of text; logits are computed for these alone, some at a
        time."""
        valid = batch.loss_mask(self.loss_on_padding)
        hidden = net(noisy.tokens, -noisy.alpha.log())[valid]  # [n, width]
        ids, corrupted = (each[valid][:, None] for each in (batch.ids, noisy.ids))  # [n, 1]
        alpha, rate = (each[:, None].expand_as(valid)[valid] for each in (noisy.alpha, noisy.rate))

        def bound(logits: Float[Tensor, "n N"], at: slice) -> Tensor:
            log_p = self.log_probs(logits[:, None], corrupted[at])
            return nelbo(log_p, ids[at], corrupted[at], alpha[at], rate[at])

        return {"loss": net.lm_loss(hidden, bound) / valid.sum().clamp_min(1), "tokens": valid.sum()}


def diffuse(ids: Ids, gamma: Times, eps: Latents) -> Latents:
    """sqrt(sigmoid(-gamma)) onehot(ids) + sqrt(sigmoid(gamma)) eps [B, L, N], gamma a row [B]; no one-hot is made."""
    alpha, sigma = (torch.sigmoid(g).sqrt()[:, None, None].to(eps) for g in (-gamma, gamma))
    return (sigma * eps).scatter_add(-1, ids[..., None], alpha.expand(*ids.shape, 1))


@dataclass(frozen=True)
class DuoSampler(DiscreteSampler):
    """From t to t_next every token is drawn again from q(z_next | z, p), p the network's law of clean tokens.

    Args:
        temperature: temperature of the token distribution, above 0; 1 leaves it unchanged.
        eps: 1 - t at the last pass, in [0, 1).
        tail: the last pass: `ancestral` draws, `greedy` takes the likeliest clean token (Duo's greedy tail).
        categorical: sampling rule: `inversion` takes one random number per token [ours], `gumbel` one per
            vocabulary entry (Duo).
    """

    process: ClassVar[type[Process]] = UniformProcess

    tail: Literal["ancestral", "greedy"] = "ancestral"
    categorical: Literal["inversion", "gumbel"] = "inversion"

    def step(self, denoise: TokenDenoiseFn, ids: Ids, t: float, t_next: float, noise: Noise) -> Ids:
        alpha, alpha_next = self.survivals(denoise, t, t_next)
        return self.draw(self.clean_probs(denoise, ids, t), ids, alpha, alpha_next, noise)

    def finish(self, denoise: TokenDenoiseFn, ids: Ids, t: float, noise: Noise) -> Ids:
        probs = self.clean_probs(denoise, ids, t)
        if self.tail == "greedy":
            return probs.argmax(-1)
        return self.draw(probs, ids, self.survivals(denoise, t)[0], 1.0, noise)

    def clean_probs(self, denoise: TokenDenoiseFn, ids: Ids, t: float) -> Logits:
        """The network's law of clean tokens [B, L, N], float64."""
        return (denoise.logits(denoise(ids, t)).double() / self.temperature).softmax(-1)

    def survivals(self, denoise: TokenDenoiseFn, *times: float) -> list[float]:
        """Survival at each time."""
        return denoise.process.survival(torch.tensor(times, dtype=torch.float64)).tolist()

    def draw(self, probs: Logits, ids: Ids, alpha: float, alpha_next: float, noise: Noise) -> Ids:
        """Tokens of the posterior [B, L]."""
        law = posterior(probs, ids, alpha, alpha_next)
        if self.categorical == "gumbel":
            return sample_by_gumbel(law, noise.uniform(*law.shape[1:]).to(law))
        return sample_by_inversion(law, noise.uniform(ids.shape[1]).to(law))
