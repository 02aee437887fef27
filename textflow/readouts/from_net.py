"""The denoiser's decode mode."""

import torch

from textflow.nets.base import DecodingDenoiser
from textflow.noise import Noise
from textflow.readouts.base import Readout, View
from textflow.types import Conditioning, Ids, Latents, Logits, Times


class FromNet(Readout):
    """The network's decode mode reads E[x | z_t], at t = 1 and without self-conditioning (ELF, sec. 3)."""

    def logits(self, view: View) -> Logits:
        return self.net(view).decode_logits(*self.inputs(view))

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        return self.net(view).decode_ids(*self.inputs(view))

    def net(self, view: View) -> DecodingDenoiser:
        """The network of a view, which must have a decode mode."""
        if not isinstance(view.net, DecodingDenoiser):
            raise ValueError(
                f"the readout {type(self).__name__} needs a net with a decode mode, {type(view.net).__name__} has none;"
                " use FromCodec, or FromPosterior where the net gives logits"
            )
        return view.net

    def inputs(self, view: View) -> tuple[Latents, Times, Conditioning]:
        """Inputs of the decode mode: t = 1, no self-condition, and the prompt clean in z."""
        z = view.cond.restore_prompt(self.latents(view))
        return z, torch.ones_like(z[:, 0, 0]), view.cond._replace(self_cond=None)

    def latents(self, view: View) -> Latents:
        """Latents that the decode mode reads."""
        return view.belief.mean


class MatchedFromNet(FromNet):
    """p(token | z_t) by the network's decode mode, at the clean fraction p that decoding was trained with [ours].

    z_t / alpha is text plus noise of std s = sigma / alpha; p z_t / alpha is a decoding row's input where
    (1 - p) scale = p s, so p = scale / (scale + s). At pure noise there is nothing to read, at pure text it is FromNet.

    Args:
        decode_noise_scale: standard deviation of a decoding row's noise at clean fraction 0, with which
            the network was trained (ELFObjective).
    """

    def __init__(self, decode_noise_scale: float = 5.0) -> None:
        super().__init__()
        if decode_noise_scale <= 0:
            raise ValueError(
                f"MatchedFromNet got decode_noise_scale {decode_noise_scale}; it needs the objective's, above 0"
            )
        self.decode_noise_scale = decode_noise_scale

    def latents(self, view: View) -> Latents:
        """p z_t / alpha: z_t at the scale of a decoding row."""
        (alpha, sigma), scale = view.path.alpha_sigma(view.t), self.decode_noise_scale
        return view.z * (scale / (scale * alpha + sigma))
