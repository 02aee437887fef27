"""Ancestral sampling of masked diffusion: each mask becomes a token once, and the token stays."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.samplers.categorical import sample_by_gumbel, sample_by_inversion
from textflow.types import Ids, RowMask

HiddenStates: TypeAlias = Float[Tensor, "B L width"]
HiddenFn: TypeAlias = Callable[[Ids, float], HiddenStates]  # (token ids, some masked; t) -> hidden states
LogitsFn: TypeAlias = Callable[[Tensor], Tensor]  # hidden states [n, width] -> logits [n, V + 1], the mask's last


@dataclass(frozen=True)
class MDLMSampler:
    """From t to u each mask stays with probability (1 - u) / (1 - t), else it becomes a token (MDLM, ddpm_cache).

    A network without time conditioning is evaluated again only on rows in which a token has changed. Masks that remain
    at the end become their likeliest token.

    Args:
        temperature: temperature of the token distribution, above 0; 1 leaves it unchanged.
        categorical: sampling rule: `inversion` takes one random number a token [ours], `gumbel` one a vocabulary entry
            (MDLM).
        eps: fraction of masks left to the end, in [0, 1).
    """

    temperature: float = 1.0
    categorical: Literal["inversion", "gumbel"] = "inversion"
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.eps < 1:
            raise ValueError(
                f"MDLMSampler got temperature {self.temperature} and eps {self.eps}; it needs a temperature above 0 "
                "and eps in [0, 1)"
            )

    def sample(
        self,
        hidden_fn: HiddenFn,
        logits_fn: LogitsFn,
        ids: Ids,
        mask_id: int,
        times: list[float],
        noise: Noise,
        time_conditioning: bool = False,
    ) -> Ids:
        """Token ids without masks [B, L]. Logits are computed only for positions that become tokens.

        Args:
            hidden_fn: network, (ids, t) -> hidden states.
            logits_fn: hidden states -> logits.
            ids: token ids, most or all masked [B, L]; the unmasked ones are a prompt.
            mask_id: id of the mask token, the last.
            times: increasing times from 0 to 1.
            noise: random streams, one a sample.
            time_conditioning: whether the network is conditioned on time, so that every step evaluates all rows.
        """
        states, stale = None, (ids == mask_id).any(1)
        for t, u in pairwise(time * (1 - self.eps) for time in times):
            states = refresh_states(states, hidden_fn, ids, stale, t)
            before, ids = ids, self.step(states, logits_fn, ids, mask_id, t, u, noise)
            stale = ((ids != before).any(1) | time_conditioning) & (ids == mask_id).any(1)
        states, masked = refresh_states(states, hidden_fn, ids, stale, times[-1] * (1 - self.eps)), ids == mask_id
        return ids.index_put((masked,), logits_fn(states[masked])[:, :mask_id].argmax(-1))

    def step(
        self, states: HiddenStates, logits_fn: LogitsFn, ids: Ids, mask_id: int, t: float, t_next: float, noise: Noise
    ) -> Ids:
        """Turn some masks into tokens; every row draws the same number of random numbers, whatever is masked."""
        masked, before, after = ids == mask_id, 1 - t, 1 - t_next
        if self.categorical == "gumbel":
            uniform = noise.uniform(ids.shape[1], mask_id + 1).to(ids.device)
            law = reverse_transition(logits_fn(states[masked]) / self.temperature, before, after)  # [n, V + 1]
            return ids.index_put((masked,), sample_by_gumbel(law, uniform[masked]))
        uniform = (
            noise.uniform(ids.shape[1]).to(ids.device) * before
        )  # below `after` the mask stays, the rest of the interval picks the token
        turned = masked & (uniform >= after)
        law = (logits_fn(states[turned])[:, :mask_id].double() / self.temperature).softmax(-1)  # [n, V]
        quantile = ((uniform[turned] - after) / (before - after)).clamp_min(torch.finfo(torch.float64).tiny)
        return ids.index_put((turned,), sample_by_inversion(law, quantile))


def reverse_transition(
    logits: Float[Tensor, "... N"], mask_prob: float, next_mask_prob: float
) -> Float[Tensor, "... N"]:
    """Distribution of a masked token one step later, times mask_prob: p (mask_prob - next_mask_prob) on tokens and
    next_mask_prob on the mask; float64.

    Args:
        logits: logits of the tokens; the last entry, the mask's, is ignored.
        mask_prob: probability of a mask at t.
        next_mask_prob: probability of a mask at t_next.
    """
    law = logits.double()[..., :-1].softmax(-1) * (mask_prob - next_mask_prob)
    return torch.cat([law, torch.full_like(law[..., :1], next_mask_prob)], -1)


def refresh_states(
    states: HiddenStates | None, hidden_fn: HiddenFn, ids: Ids, stale_rows: RowMask, t: float
) -> HiddenStates:
    """Hidden states, with the network evaluated on stale rows alone."""
    if states is None or bool(stale_rows.all()):
        return hidden_fn(ids, t)
    if bool(stale_rows.any()):
        states[stale_rows] = hidden_fn(ids[stale_rows], t)
    return states
