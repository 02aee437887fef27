"""The codec reads."""

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.readouts.base import Readout
from textflow.types import Given, Latents, Logits, Posterior


class FromCodec(Readout):
    """The codec's own readout of the final latents."""

    def forward(self, z: Latents, belief: Posterior, codec: Codec, net: Denoiser, given: Given = Given()) -> Logits:
        return codec.readout(z)
