"""Residual of the prediction E[x | z_t] on noised real text."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.types import Denoise, LatentMask, Latents, Logits, Mask, Posterior


class TerminalPosterior(NamedTuple):
    """Denoiser's posterior on noised real text at one time, usually the last interior time.

    Args:
        x: latents of real text.
        z: x noised to t.
        belief: the denoiser's posterior at z.
        mask: True where x is text.
        t: time, in [0, 1].
    """

    x: Latents
    z: Latents
    belief: Posterior
    mask: Mask
    t: float

    @property
    def x0_pred(self) -> Latents:
        """E[x | z_t]."""
        return self.belief.mean

    @property
    def residual(self) -> Latents:
        """r = E[x | z_t] - x at valid positions, 0 elsewhere."""
        return residual(self.x, self.x0_pred, self.mask)


@torch.no_grad()
def terminal_posterior(
    denoise: Denoise, path: ProbPath, x: Latents, mask: Mask, t: float, noise: Noise, num_passes: int = 1
) -> TerminalPosterior:
    """Noise real text to t and denoise it.

    Args:
        denoise: (z, t, self_cond) -> belief, without an escape.
        path: probability path.
        x: latents of real text.
        mask: True at text.
        t: time, in [0, 1].
        noise: one stream per row.
        num_passes: number of calls; 2 conditions a self-conditioned denoiser on its first prediction.
    """
    z = path.mix(x, noise.normal_like(x), t)
    belief = denoise(z, t, None, path.t_max)
    for _ in range(num_passes - 1):
        belief = denoise(z, t, belief.mean, path.t_max)
    return TerminalPosterior(x, z, belief, mask, t)


def residual(x: Latents, x0_pred: Latents, mask: Mask) -> Latents:
    """x0_pred - x at valid positions, 0 elsewhere."""
    return torch.where(latent_mask(mask, x)[..., None], x0_pred - x, 0)


def latent_mask(mask: Mask, x: Latents) -> LatentMask:
    """True on latents that stand for text: the token mask if there is one latent per token, else everywhere."""
    return mask if mask.shape == x.shape[:2] else torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)


def sum_per_sequence(values: Num[Tensor, "B L"] | Bool[Tensor, "B L"], mask: Mask) -> Float[Tensor, " B"]:
    """Sums over the valid positions of each sequence, float64."""
    return torch.where(mask, values.double(), 0).sum(1)


def stream_seeds(noise: Noise) -> list[int]:
    """One seed per stream, so that `Noise(seeds)` repeats its draws."""
    return [int(u * 2**53) for u in noise.uniform().tolist()]


def token_errors(
    logits: Logits | None, clean_ids: Int[Tensor, "B L"]
) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B L"]]:
    """1 where argmax gamma differs from the clean decode, and 1 - max gamma; equal in mean if calibrated; float64.

    Args:
        logits: logits of gamma = p(token | z_t); default: return NaN.
        clean_ids: tokens of the clean decode.
    """
    if logits is None:
        unknown = torch.full(clean_ids.shape, torch.nan, dtype=torch.float64, device=clean_ids.device)
        return unknown, unknown
    return (logits.argmax(-1) != clean_ids).double(), -torch.expm1((logits.amax(-1) - logits.logsumexp(-1)).double())


def channel_blur(path: ProbPath, t: float) -> float:
    """s_ch = sigma(t) / alpha(t), latent units."""
    time = torch.tensor(t, dtype=torch.float64)
    alpha = float(path.alpha(time))
    if alpha <= 0:
        raise ValueError(f"at t = {t} z holds no text, so its blur is infinite; use a time above 0")
    return float(path.sigma(time)) / alpha
