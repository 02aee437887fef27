"""Readout: what a belief says in tokens. The last one is the final, categorical act."""

from abc import ABC, abstractmethod

from torch import nn

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.paths.base import Path
from textflow.types import Given, Ids, Latents, Logits, Posterior


class Readout(nn.Module, ABC):
    """The belief met at z_t -> logits over tokens."""

    @abstractmethod
    def forward(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Logits:
        """
        Args:
            z: state that the belief is about.
            t: its time.
            belief: of the denoiser at z_t; after the last step its mean is the final latents.
            path: how text became z.
            codec: may read latents.
            net: may read latents.
            given: guidance and prompt.
        """

    def tokens(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Ids:
        """The likeliest tokens of `forward`, whose arguments these are; a readout that knows how makes them with few
        logits in memory at a time."""
        return self(z, t, belief, path, codec, net, given).argmax(-1)
