"""The denoiser reads."""

import torch

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser, Speaker
from textflow.paths.base import Path
from textflow.readouts.base import Readout
from textflow.types import Given, Ids, Latents, Logits, Posterior, Times


class FromNet(Readout):
    """The network's decode mode reads the guess E[x | z_t], at t = 1 and without self-conditioning (ELF, sec. 3)."""

    def forward(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Logits:
        return decoder(self, net).decode(*heard(belief.mean, given))

    def tokens(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Ids:
        return decoder(self, net).tokens(*heard(belief.mean, given))


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
        return decoder(self, net).decode(*heard(z * self.share(path, t), given))

    def tokens(
        self, z: Latents, t: float, belief: Posterior, path: Path, codec: Codec, net: Denoiser, given: Given = Given()
    ) -> Ids:
        return decoder(self, net).tokens(*heard(z * self.share(path, t), given))

    def share(self, path: Path, t: float) -> float:
        """p / alpha: what z_t is to be multiplied with."""
        time = torch.tensor(t, dtype=torch.float64)
        return self.scale / (self.scale * float(path.alpha(time)) + float(path.sigma(time)))


def decoder(readout: Readout, net: Denoiser) -> Speaker:
    """A net, if it has a decode mode."""
    if not isinstance(net, Speaker):
        raise ValueError(
            f"the readout {type(readout).__name__} needs a net with a decode mode, {type(net).__name__} has none; use "
            "FromCodec, or FromBelief where the net gives logits"
        )
    return net


def heard(z: Latents, given: Given) -> tuple[Latents, Times, Given]:
    """What a decode mode is told: t = 1, no self-condition, and a prompt stands clean."""
    if given.fixed is not None and given.clean is not None:
        z = torch.where(given.fixed[..., None], given.clean, z)
    return z, torch.ones_like(z[:, 0, 0]), given._replace(prev=None)
