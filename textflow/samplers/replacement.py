"""Given tokens for a network that was not trained on prompts: the replacement method, an approximation."""

from collections.abc import Callable
from typing import TypeAlias

import torch

from textflow.paths.base import Path
from textflow.samplers.base import levels
from textflow.types import Choice, Denoise, Latents, Logits, Posterior

Tokens: TypeAlias = Callable[[Latents, float, Posterior], Logits]


class Replaced:
    """Beliefs of a denoiser for which the given latents stand in z as the path would have noised them,
    alpha(t) x + sigma(t) eps with the sample's own eps; the belief keeps them clean.

    An approximation (the replacement method, 2204.03458, sec. 3.1): the beliefs that carry z elsewhere see the given
    latents as noisy as all else, so early steps know little of them, and the law of samples is not the conditional one.

    Args:
        denoise: (z, t, prev) -> belief.
        path: how text becomes noise.
        clean: given latents; elsewhere they are not read.
        fixed: True where they stand.
        start: z at t = 0, whose noise they keep.
    """

    def __init__(self, denoise: Denoise, path: Path, clean: Latents, fixed: Choice, start: Latents) -> None:
        self.denoise, self.path, self.clean, self.stay = denoise, path, clean, fixed[..., None]
        self.eps = start / levels(path, 0.0)[1]

    def __call__(self, z: Latents, t: float, prev: Latents | None = None) -> Posterior:
        belief = self.denoise(self.see(z, t), t, prev)
        return belief._replace(mean=torch.where(self.stay, self.clean, belief.mean))

    def reading(self, tokens: Tokens) -> Tokens:
        """tokens of a state in which the given latents stand."""
        return lambda z, t, belief: tokens(self.see(z, t), t, belief)

    def see(self, z: Latents, t: float) -> Latents:
        """z_t with the given latents in their place."""
        return torch.where(self.stay, self.path.mix(self.clean, self.eps, t), z)
