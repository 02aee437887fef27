"""Sharpening: between the mean of all tokens and the likeliest one."""

from collections.abc import Callable

import torch

from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Posterior


class Sharpen(Escape):
    """mean <- sum_v w_v embed(v), w ~ p(token | z_t)^power over the likeliest tokens; nothing at t = 0 [ours].

    Power 1 is nearly the mean, power infinity the mode commit. No token is chosen: unsure positions stay between codes.

    Args:
        power: > 0.
        top: likeliest tokens, >= 1; each is embedded, so a codec that reads in context encodes as many texts.
    """

    def __init__(self, power: float = 4.0, top: int = 8) -> None:
        super().__init__()
        if power <= 0 or top < 1:
            raise ValueError(f"Sharpen got power {power} and top {top}; it needs a power above 0 and at least 1 token")
        self.power, self.top = power, top

    def forward(
        self,
        belief: Posterior,
        t: float,
        tokens: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        if t <= 0:
            return belief
        logits = tokens()
        best, ids = logits.topk(min(self.top, logits.shape[-1]), dim=-1)
        weight = (self.power * best.double()).softmax(-1).to(belief.mean)
        codes = torch.stack([embed(ids[..., rank]).to(belief.mean) for rank in range(ids.shape[-1])], -1)
        if codes.shape[:-1] != belief.mean.shape:
            raise ValueError(
                f"Sharpen needs a latent a token, but tokens have latents {tuple(codes.shape[1:-1])} and the belief "
                f"{tuple(belief.mean.shape[1:])}; use the escape Soft"
            )
        return belief._replace(mean=(codes * weight[..., None, :]).sum(-1))
