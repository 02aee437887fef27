"""The denoiser reads."""

import torch

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser, Speaker
from textflow.paths.base import Path
from textflow.readouts.base import Readout
from textflow.types import Given, Latents, Logits, Posterior


class FromNet(Readout):
    """The network's decode mode reads the guess E[x | z_t], at t = 1 and without self-conditioning (ELF, sec. 3)."""

    def forward(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Logits:
        return speak(self, belief.mean, net, given)


class Matched(Readout):
    """p(token | z_t) by the network's decode mode, at the share p of text that decoding was trained with [ours].

    z_t / alpha is text plus noise of std s = sigma / alpha; p z_t / alpha is a decoding row's input where
    (1 - p) scale = p s, so p = scale / (scale + s). At t = 0 there is nothing to read, at t = 1 it is FromNet.

    Args:
        scale: standard deviation of a decoding row's noise at share 0 (the objective's decode_scale).
    """

    def __init__(self, scale: float = 5.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"Matched got scale {scale}; it needs the objective's decode_scale, above 0")
        self.scale = scale

    def forward(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Logits:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(path.alpha(time)), float(path.sigma(time))
        return speak(self, z * (self.scale / (self.scale * alpha + sigma)), net, given)


def speak(readout: Readout, z: Latents, net: Denoiser, given: Given) -> Logits:
    """The decode mode of a net that has one."""
    if not isinstance(net, Speaker):
        raise ValueError(
            f"the readout {type(readout).__name__} needs a net with a decode mode, {type(net).__name__} has none; use "
            "FromCodec, or FromBelief where the net gives logits"
        )
    return net.decode(z, torch.ones_like(z[:, 0, 0]), given._replace(prev=None))
