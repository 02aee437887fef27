"""Residual: how far the guess E[x | z_t] of noised real text lies from the text."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import ending
from textflow.types import Denoise, Latents, Logits, Mask, Posterior


class Terminal(NamedTuple):
    """Real text met at one time, most often the last before the text.

    Args:
        x: latents of real text.
        z: x noised to t.
        belief: of the denoiser at z.
        mask: True where x is text.
        t: time, in [0, 1].
    """

    x: Latents
    z: Latents
    belief: Posterior
    mask: Mask
    t: float

    @property
    def guess(self) -> Latents:
        """E[x | z_t]."""
        return self.belief.mean

    @property
    def residual(self) -> Latents:
        """r = E[x | z_t] - x at valid positions, 0 elsewhere."""
        return residual(self.x, self.guess, self.mask)


@torch.no_grad()
def terminal(denoise: Denoise, path: Path, x: Latents, mask: Mask, t: float, noise: Noise, passes: int = 1) -> Terminal:
    """Noise real text to t and ask once.

    Args:
        denoise: (z, t, prev) -> belief, without an escape.
        path: how text becomes noise.
        x: latents of real text.
        mask: True where x is text.
        t: time, in [0, 1].
        noise: one stream a sequence.
        passes: 2 lets a self-conditioned denoiser hear its own first guess.
    """
    if x.shape[:2] != mask.shape:
        raise ValueError(
            f"diagnostics count flips a position: latents of shape {list(x.shape)} need a mask of {list(x.shape[:2])},"
            f" got {list(mask.shape)}; use a codec with one latent a token"
        )
    z, denoise = path.mix(x, noise.normal_like(x), t), ending(denoise, 1.0)  # of a flow map: where its step ends
    belief = denoise(z, t, None)
    for _ in range(passes - 1):
        belief = denoise(z, t, belief.mean)
    return Terminal(x, z, belief, mask, t)


def residual(x: Latents, guess: Latents, mask: Mask) -> Latents:
    """guess - x at valid positions, 0 elsewhere whatever padding holds."""
    return torch.where(mask[..., None], guess - x, 0)


def per_sequence(values: Num[Tensor, "B L"] | Bool[Tensor, "B L"], mask: Mask) -> Float[Tensor, " B"]:
    """Sums over the valid positions of each sequence, float64."""
    return torch.where(mask, values.double(), 0).sum(1)


def seeds_of(noise: Noise) -> list[int]:
    """A seed of each stream: `Noise` made twice from them draws the same twice."""
    return [int(u * 2**53) for u in noise.uniform().tolist()]


def doubts(logits: Logits | None, said: Int[Tensor, "B L"]) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """Whether argmax gamma is not the clean decode, and 1 - max gamma, float64; means are equal if gamma is calibrated.

    Args:
        logits: of gamma = p(token | z_t); NaN is returned without them.
        said: clean decode of the text.
    """
    if logits is None:
        unknown = torch.full(said.shape, torch.nan, dtype=torch.float64, device=said.device)
        return unknown, unknown
    return (logits.argmax(-1) != said).double(), -torch.expm1((logits.amax(-1) - logits.logsumexp(-1)).double())


def channel_blur(path: Path, t: float) -> float:
    """s_ch = sigma(t) / alpha(t), latent units."""
    time = torch.tensor(t, dtype=torch.float64)
    alpha = float(path.alpha(time))
    if alpha <= 0:
        raise ValueError(f"at t = {t} there is no text in z, so no blur of it; use times above 0")
    return float(path.sigma(time)) / alpha
