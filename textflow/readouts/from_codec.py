"""The codec reads."""

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.paths.base import Path
from textflow.readouts.base import Readout
from textflow.types import Given, Latents, Logits, Posterior


class FromCodec(Readout):
    """The codec's own readout of the guess E[x | z_t]."""

    def forward(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Logits:
        return codec.readout(belief.mean)
