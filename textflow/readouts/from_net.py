"""The denoiser reads."""

import torch

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser, Speaker
from textflow.readouts.base import Readout
from textflow.types import Given, Latents, Logits, Posterior


class FromNet(Readout):
    """The network's decode mode at t = 1 without self-conditioning (ELF, sec. 3)."""

    def forward(self, z: Latents, belief: Posterior, codec: Codec, net: Denoiser, given: Given = Given()) -> Logits:
        if not isinstance(net, Speaker):
            raise ValueError(
                f"the readout FromNet needs a net with a decode mode, {type(net).__name__} has none; use FromCodec"
            )
        return net.decode(z, torch.ones_like(z[:, 0, 0]), given._replace(prev=None))
