"""Escape: a discrete decision inside the smooth sampling map."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from torch import nn

from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, PositionMask, Posterior

TokenLogits: TypeAlias = Callable[[], Logits]
Embed: TypeAlias = Callable[[Ids], Latents]


class Escape(nn.Module, ABC):
    """A change of the belief that carries z: before the final readout, some positions commit to tokens, which are
    embedded again."""

    @abstractmethod
    def forward(self, belief: Posterior, t: float, token_logits: TokenLogits, embed: Embed, noise: Noise) -> Posterior:
        """Commit some positions of a belief.

        Args:
            belief: posterior of the denoiser at z_t.
            t: time of the belief.
            token_logits: makes the logits of p(token | z_t) [B, L, V]; call it only if needed, it may cost a pass.
            embed: token ids -> clean latents.
            noise: random streams, one a sample, for sampled choices.

        Returns:
            belief with the latents of committed tokens in its mean, and their ids in `committed`.
        """


class NoEscape(Escape):
    """The posterior mean carries z; no position commits before the final readout."""

    def forward(self, belief: Posterior, t: float, token_logits: TokenLogits, embed: Embed, noise: Noise) -> Posterior:
        return belief


class Gate(nn.Module, ABC):
    """The positions where an escape commits."""

    @abstractmethod
    def forward(self, logits: Logits, mean: Latents, t: float) -> PositionMask:
        """True where an escape commits.

        Args:
            logits: logits of p(token | z_t) [B, L, V].
            mean: E[x | z_t] [B, S, d].
            t: time of the belief, in [0, 1].
        """
