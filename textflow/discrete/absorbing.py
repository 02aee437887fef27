"""Masking: how text becomes masked tokens, the discrete noise of MDLM."""

from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.types import Ids


@dataclass(frozen=True)
class Masking:
    """A token is kept with probability 1 - (1 - floor) (1 - t), else masked (MDLM, 2406.07524, log-linear schedule).

    Args:
        floor: share of tokens kept at t = 0, in [0, 1).
    """

    floor: float = 1e-3

    def kept(self, t: Tensor) -> Tensor:
        """Probability that a token is not masked, exp(-sigma)."""
        return 1 - (1 - self.floor) * (1 - t)

    def sigma(self, t: Tensor) -> Tensor:
        """Total noise -log(kept): what a network may be told of the time."""
        return -torch.log1p((self.floor - 1) * (1 - t))

    def rate(self, t: Tensor) -> Tensor:
        """-d sigma / dt."""
        return (1 - self.floor) / self.kept(t)

    def weight(self, t: Tensor) -> Tensor:
        """Of a masked token's -log p in the likelihood bound: rate / expm1(sigma) = (1 - floor) / (1 - kept)."""
        return (1 - self.floor) / (1 - self.kept(t))

    def hide(self, ids: Ids, uniform: Tensor, t: Tensor, mask: int) -> Ids:
        """Tokens, some of them masked.

        Args:
            ids: tokens.
            uniform: on [0, 1), one a token.
            t: of each row, 0 masked, 1 text.
            mask: id of the mask.
        """
        return torch.where(uniform < 1 - self.kept(t)[:, None], mask, ids)
