"""MDLM (2406.07524): weighted cross-entropy of masked tokens, and sampling in which each mask becomes a token once."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.discrete.absorbing import Absorbing, reverse_transition
from textflow.discrete.base import DiscreteObjective, DiscreteSampler
from textflow.discrete.denoiser import TokenDenoiseFn, TokenDiT
from textflow.discrete.process import Process
from textflow.noise import Noise
from textflow.samplers.categorical import cut_to_nucleus, sample_by_gumbel, sample_by_inversion
from textflow.types import Batch, Ids, Logits, Times


class MaskDraws(NamedTuple):
    """The random numbers of one step.

    Args:
        t: time of each row [B]; 0 is masked, 1 is text; float64.
        uniform: uniform numbers on [0, 1), one a token [B, L]; tokens with small ones are masked.
    """

    t: Times
    uniform: Float[Tensor, "B L"]


class MDLMObjective(DiscreteObjective):
    """-log p(token | unmasked tokens) at masked tokens, times (1 - eps) / (1 - survival(t)); a token mean and a bound
    on -log p(text).

    Args:
        process: masking process.
        sampling_eps: smallest 1 - t in training, in (0, 1).
        time_conditioning: whether the network is conditioned on the noise level; without it the sampler reuses states
            until a token changes.
        antithetic_sampling: whether the times of a batch are stratified over [0, 1] (MDLM) or independent.
        loss_on_padding: whether padding counts in the loss, so that a text learns to end.
    """

    process: Absorbing

    def __init__(
        self,
        process: Absorbing = Absorbing(),
        sampling_eps: float = 1e-3,
        time_conditioning: bool = False,
        antithetic_sampling: bool = True,
        loss_on_padding: bool = False,
    ) -> None:
        super().__init__(process, sampling_eps, time_conditioning, antithetic_sampling, loss_on_padding)

    def forward(self, net: TokenDiT, batch: Batch, step: int) -> dict[str, Tensor]:
        rows = torch.rand(len(batch.ids), dtype=torch.float64, device=batch.ids.device)
        tokens = torch.rand(batch.ids.shape, dtype=torch.float64, device=batch.ids.device)
        return self.loss(net, batch, MaskDraws(self.sample_times(rows), tokens))

    def loss(self, net: TokenDiT, batch: Batch, draws: MaskDraws) -> dict[str, Tensor]:
        """The losses for given draws; logits are computed for masked text alone.

        Args:
            net: network to train.
            batch: token ids and masks.
            draws: random numbers of this step.
        """
        t, masks = draws.t.double(), self.process.stationary(batch.ids, net.vocab_size)
        ids = self.process.corrupt(batch.ids, masks, draws.uniform, t)
        if batch.prompt_mask is not None:  # a prompt is never masked
            ids = torch.where(batch.prompt_mask, batch.ids, ids)
        valid = batch.loss_mask(self.loss_on_padding)
        masked = (ids == masks) & valid
        logits = net.lm_logits(net(ids, self.network_sigma(t))[masked])[:, :-1]  # [n, V]
        nll = F.cross_entropy(logits.float(), batch.ids[masked], reduction="none")
        weight = self.process.elbo_weight(t)[:, None].expand_as(masked)[masked].to(nll)
        return {
            "loss": (nll * weight).sum() / valid.sum().clamp_min(1),
            "tokens": valid.sum(),
            "masked_ce": nll.detach().sum() / masked.sum().clamp_min(1),
        }

    def log_probs(self, logits: Logits, ids: Ids) -> Logits:
        """No mass on the mask, unmasked tokens stay (the SUBS parameterization); float32."""
        log_p = F.pad(logits[..., :-1].float().log_softmax(-1), (0, 1), value=-torch.inf)
        unmasked = torch.full_like(log_p, -torch.inf).scatter_(-1, ids[..., None], 0.0)
        return torch.where((ids == logits.shape[-1] - 1)[..., None], log_p, unmasked)


@dataclass(frozen=True)
class MDLMSampler(DiscreteSampler):
    """From t to u each mask stays with probability (1 - u) / (1 - t), else it becomes a token (MDLM, ddpm_cache).

    Masks that remain at the end become their likeliest token.

    Args:
        temperature: temperature of the token distribution, above 0; 1 leaves it unchanged.
        eps: fraction of masks left to the end, in [0, 1).
        categorical: sampling rule: `inversion` takes one random number per token [ours], `gumbel` one per
            vocabulary entry (MDLM).
        top_p: probability of the nucleus, the likeliest tokens, in (0, 1]; 1 is all. Only with `inversion`.
    """

    process: ClassVar[type[Process]] = Absorbing

    categorical: Literal["inversion", "gumbel"] = "inversion"
    top_p: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.top_p <= 1 or (self.top_p < 1 and self.categorical == "gumbel"):
            raise ValueError(
                f"MDLMSampler got top_p {self.top_p} and categorical {self.categorical}; it needs a probability above 0"
                " and at most 1, and inversion below 1"
            )

    def step(self, denoise: TokenDenoiseFn, ids: Ids, t: float, t_next: float, noise: Noise) -> Ids:
        mask_id = denoise.net.vocab_size - 1
        masked, before, after = ids == mask_id, 1 - t, 1 - t_next
        states = denoise(ids, t, masked.any(1))
        if self.categorical == "gumbel":
            uniform = noise.uniform(ids.shape[1], mask_id + 1).to(ids.device)
            law = reverse_transition(denoise.logits(states[masked]) / self.temperature, before, after)  # [n, V + 1]
            return ids.index_put((masked,), sample_by_gumbel(law, uniform[masked]))
        # below `after` the mask stays, the rest of the interval picks the token
        uniform = noise.uniform(ids.shape[1]).to(ids.device) * before
        turned = masked & (uniform >= after)
        law = (denoise.logits(states[turned])[:, :mask_id].double() / self.temperature).softmax(-1)  # [n, V]
        law = cut_to_nucleus(law, self.top_p)
        quantile = ((uniform[turned] - after) / (before - after)).clamp_min(torch.finfo(torch.float64).tiny)
        return ids.index_put((turned,), sample_by_inversion(law, quantile))

    def finish(self, denoise: TokenDenoiseFn, ids: Ids, t: float, noise: Noise) -> Ids:
        masked = ids == denoise.net.vocab_size - 1
        states = denoise(ids, t, masked.any(1))
        return ids.index_put((masked,), denoise.logits(states[masked])[:, :-1].argmax(-1))
