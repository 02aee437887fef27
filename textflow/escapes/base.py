"""Escape: a way out of the smooth map, from a belief to a choice."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import nn

from textflow.noise import Noise
from textflow.types import Choice, Ids, Latents, Logits, Posterior


class Escape(nn.Module, ABC):
    """Changes the belief that carries z: before the final readout, some tokens are chosen and embedded again."""

    @abstractmethod
    def forward(
        self,
        belief: Posterior,
        t: float,
        tokens: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        """
        Args:
            belief: of the denoiser at z_t.
            t: time of the belief.
            tokens: logits of p(token | z_t); may cost a network pass, so it is asked only where it is used.
            embed: tokens -> clean latents.
            noise: the samples' own streams, for sampled choices.

        Returns:
            the belief with the latents of chosen tokens in its mean, and `chosen`.
        """


class Gate(nn.Module, ABC):
    """Where a choice is made."""

    @abstractmethod
    def forward(self, logits: Logits, mean: Latents, t: float) -> Choice:
        """
        Args:
            logits: of p(token | z_t).
            mean: E[x | z_t].
            t: time.
        """
