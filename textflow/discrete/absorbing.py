"""Absorbing-state noise of MDLM: tokens are replaced by masks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.types import Ids


@dataclass(frozen=True)
class Absorbing:
    """A token survives with probability 1 - (1 - eps) (1 - t), else it is masked (MDLM, 2406.07524, log-linear).

    Args:
        eps: fraction of tokens that survive at t = 0, in [0, 1).
    """

    eps: float = 1e-3

    def survival(self, t: Tensor) -> Tensor:
        """Probability that a token is not masked, exp(-sigma)."""
        return 1 - (1 - self.eps) * (1 - t)

    def sigma(self, t: Tensor) -> Tensor:
        """Total noise -log(survival), which a network may be conditioned on."""
        return -torch.log1p((self.eps - 1) * (1 - t))

    def rate(self, t: Tensor) -> Tensor:
        """-d sigma / dt."""
        return (1 - self.eps) / self.survival(t)

    def elbo_weight(self, t: Tensor) -> Tensor:
        """Weight of a masked token's -log p in the ELBO: rate / expm1(sigma) = (1 - eps) / (1 - survival)."""
        return (1 - self.eps) / (1 - self.survival(t))

    def mask_tokens(self, ids: Ids, uniform: Tensor, t: Tensor, mask_id: int) -> Ids:
        """Token ids with some of them replaced by the mask.

        Args:
            ids: token ids [B, L].
            uniform: uniform numbers on [0, 1), one a token [B, L].
            t: time of each row [B]; 0 is masked, 1 is text.
            mask_id: id of the mask token.
        """
        return torch.where(uniform < 1 - self.survival(t)[:, None], mask_id, ids)
