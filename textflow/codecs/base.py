"""Codec: text <-> latents."""

from abc import ABC, abstractmethod

from torch import nn

from textflow.types import Ids, Latents, Logits, Mask, Sight


class Codec(nn.Module, ABC):
    """ids <-> latents of about unit variance. `vocab` tokens, latents `dim` wide."""

    vocab: int
    dim: int
    reads: bool = True  # whether there is a readout

    @abstractmethod
    def encode(self, ids: Ids, mask: Mask | Sight | None = None) -> Latents:
        """The latents of ids.

        Args:
            ids: tokens.
            mask: True where ids are text (default: everywhere); a codec that takes prompts is told who sees whom, too.
        """

    @abstractmethod
    def readout(self, z: Latents) -> Logits:
        """Logits of the tokens behind (noisy) latents."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether a generator can be trained on it: a codec that learns must have learned."""
