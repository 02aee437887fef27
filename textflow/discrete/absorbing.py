"""The absorbing process of MDLM: tokens are replaced by masks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.discrete.process import Process
from textflow.noise import Noise
from textflow.types import Ids


@dataclass(frozen=True)
class Absorbing(Process):
    """A lost token becomes the mask, which is the last state (MDLM, 2406.07524, log-linear noise)."""

    def num_states(self, vocab_size: int) -> int:
        return vocab_size + 1

    def stationary(self, ids: Ids, num_states: int, noise: Noise | None = None) -> Ids:
        return torch.full_like(ids, num_states - 1)

    def elbo_weight(self, t: Tensor) -> Tensor:
        """Weight of a masked token's -log p in the ELBO: rate / expm1(sigma) = (1 - eps) / (1 - survival)."""
        return (1 - self.eps) / (1 - self.survival(t))


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
