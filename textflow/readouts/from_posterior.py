"""The belief speaks for itself."""

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.paths.base import Path
from textflow.readouts.base import Readout
from textflow.types import Given, Latents, Logits, Posterior


class FromBelief(Readout):
    """The logits of p(token | z_t) that the denoiser itself gives: a commitment head, or an exact posterior."""

    def forward(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Logits:
        if belief.logits is None:
            raise ValueError(
                f"the readout FromBelief needs a denoiser that gives logits, but {type(net).__name__} gives only a"
                " mean; give it a commitment head (ELF: head) or use the readout FromNet, Matched or FromCodec"
            )
        return belief.logits
