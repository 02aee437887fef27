"""Readout: the last, categorical act, latents -> logits."""

from abc import ABC, abstractmethod

from torch import nn

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.types import Given, Latents, Logits, Posterior


class Readout(nn.Module, ABC):
    """Final latents -> logits over tokens."""

    @abstractmethod
    def forward(self, z: Latents, belief: Posterior, codec: Codec, net: Denoiser, given: Given = Given()) -> Logits:
        """
        Args:
            z: final latents.
            belief: the last belief met.
            codec: may read z.
            net: may read z.
            given: guidance and prompt.
        """
