"""The objective of MDLM (2406.07524): weighted cross-entropy of masked tokens, a bound on -log p(text)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textflow.discrete.absorbing import Absorbing
from textflow.discrete.mdlm import MDLM
from textflow.types import Batch, Times


class MaskDraws(NamedTuple):
    """The random numbers of one step.

    Args:
        t: time of each row [B]; 0 is masked, 1 is text; float64.
        uniform: uniform numbers on [0, 1), one a token [B, L]; tokens with small ones are masked.
    """

    t: Times
    uniform: Float[Tensor, "B L"]


class MDLMObjective(nn.Module):
    """-log p(token | unmasked tokens) at masked tokens, times (1 - eps) / (1 - survival(t)); a token mean.

    Args:
        noise: masking process.
        sampling_eps: smallest 1 - t that is sampled, in (0, 1).
        time_conditioning: whether the network is conditioned on the noise level; without it the sampler reuses states
            until a token changes.
        antithetic_sampling: whether the times of a batch are stratified over [0, 1] (MDLM) or independent.
    """

    def __init__(
        self,
        noise: Absorbing = Absorbing(),
        sampling_eps: float = 1e-3,
        time_conditioning: bool = False,
        antithetic_sampling: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < sampling_eps < 1:
            raise ValueError(
                f"MDLMObjective got sampling_eps = {sampling_eps}; it needs a fraction above 0 and below 1"
            )
        self.noise, self.sampling_eps, self.time_conditioning, self.antithetic_sampling = (
            noise,
            sampling_eps,
            time_conditioning,
            antithetic_sampling,
        )

    def forward(self, net: MDLM, batch: Batch) -> dict[str, Tensor]:
        rows = torch.rand(len(batch.ids), dtype=torch.float64, device=batch.ids.device)
        tokens = torch.rand(batch.ids.shape, dtype=torch.float64, device=batch.ids.device)
        return self.loss(net, batch, MaskDraws(self.sample_times(rows), tokens))

    def sample_times(self, uniform: Times) -> Times:
        """Times of rows from uniform numbers; antithetic sampling shifts row i of B by i / B, modulo 1."""
        if self.antithetic_sampling:
            offset = torch.arange(len(uniform), device=uniform.device) / len(uniform)
            uniform = (uniform / len(uniform) + offset) % 1
        return 1 - ((1 - self.sampling_eps) * uniform + self.sampling_eps)

    def network_sigma(self, t: Times) -> Times:
        """Noise level at t that the network is conditioned on."""
        return self.noise.sigma(t) if self.time_conditioning else torch.zeros_like(t)

    def loss(self, net: MDLM, batch: Batch, draws: MaskDraws) -> dict[str, Tensor]:
        """The losses for given draws; logits are computed for masked text alone.

        Args:
            net: network to train.
            batch: token ids and masks.
            draws: random numbers of this step.
        """
        t = draws.t.double()
        ids = self.noise.mask_tokens(batch.ids, draws.uniform, t, net.mask_id)
        if batch.prompt_mask is not None:  # a prompt is never masked
            ids = torch.where(batch.prompt_mask, batch.ids, ids)
        valid = batch.mask if batch.prompt_mask is None else batch.mask & ~batch.prompt_mask
        masked = (ids == net.mask_id) & valid
        logits = net.lm_logits(net(ids, self.network_sigma(t))[masked])[:, : net.mask_id]  # [n, V]
        nll = F.cross_entropy(logits.float(), batch.ids[masked], reduction="none")
        weight = self.noise.elbo_weight(t)[:, None].expand_as(masked)[masked].to(nll)
        return {
            "loss": (nll * weight).sum() / valid.sum().clamp_min(1),
            "tokens": valid.sum(),
            "masked_ce": nll.detach().sum() / masked.sum().clamp_min(1),
        }
