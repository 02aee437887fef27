"""Process: the corruption of tokens by discrete diffusion."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from textflow.noise import Noise
from textflow.types import Ids


@dataclass(frozen=True)
class Process(ABC):
    """Corruption of tokens: a token survives to time t with probability alpha(t) = 1 - (1 - eps) (1 - t) (log-linear),
    else it becomes a token of the stationary law.

    Args:
        eps: fraction of tokens that survive at t = 0, in [0, 1).
    """

    eps: float = 1e-3

    def survival(self, t: Tensor) -> Tensor:
        """Probability that a token is unchanged, alpha = exp(-sigma)."""
        return 1 - (1 - self.eps) * (1 - t)

    def sigma(self, t: Tensor) -> Tensor:
        """Total noise -log(survival), which a network may be conditioned on."""
        return -torch.log1p((self.eps - 1) * (1 - t))

    def rate(self, t: Tensor) -> Tensor:
        """-d sigma / dt."""
        return (1 - self.eps) / self.survival(t)

    def corrupt(self, ids: Ids, stationary: Ids, uniform: Tensor, t: Tensor) -> Ids:
        """Token ids at time t [B, L].

        Args:
            ids: token ids [B, L].
            stationary: tokens of the stationary law that take the place of the lost ones [B, L].
            uniform: uniform numbers on [0, 1) [B, L]; a token survives where they are at least 1 - survival(t).
            t: time of each row [B]; 0 is noise, 1 is text.
        """
        return torch.where(uniform < 1 - self.survival(t)[:, None], stationary, ids)

    @abstractmethod
    def num_states(self, vocab_size: int) -> int:
        """Number of values of a corrupted token, for a vocabulary without extra tokens."""

    @abstractmethod
    def stationary(self, ids: Ids, num_states: int, noise: Noise | None = None) -> Ids:
        """Tokens of the law at t = 0, of the shape of ids [B, L]; drawn from torch's generator without `noise`."""
