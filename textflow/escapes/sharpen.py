"""Sharpening: an interpolation between the posterior mean and the mode commit."""

import torch

from textflow.escapes.base import Embed, Escape, TokenLogits
from textflow.noise import Noise
from textflow.types import Posterior


class Sharpen(Escape):
    """mean <- sum_v w_v embed(v), w ~ p(token | z_t)^inverse_temperature over the likeliest tokens; unchanged at t = 0
    [ours].

    inverse_temperature 1 is nearly the mean, infinity the mode commit. No position commits to a token.

    Args:
        inverse_temperature: exponent of the token probabilities, > 0.
        top_k: number of likeliest tokens, >= 1; a contextual codec encodes that many texts.
    """

    def __init__(self, inverse_temperature: float = 4.0, top_k: int = 8) -> None:
        super().__init__()
        if inverse_temperature <= 0 or top_k < 1:
            raise ValueError(
                f"Sharpen got inverse_temperature {inverse_temperature} and top_k {top_k}; it needs both above 0"
            )
        self.inverse_temperature, self.top_k = inverse_temperature, top_k

    def forward(self, belief: Posterior, t: float, token_logits: TokenLogits, embed: Embed, noise: Noise) -> Posterior:
        if t <= 0:
            return belief
        logits = token_logits()
        best, ids = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1)
        weight = (self.inverse_temperature * best.double()).softmax(-1).to(belief.mean)
        codes = torch.stack([embed(ids[..., rank]).to(belief.mean) for rank in range(ids.shape[-1])], -1)
        if codes.shape[:-1] != belief.mean.shape or weight.shape[:2] != codes.shape[:2]:
            raise ValueError(
                f"Sharpen needs a latent per token, but {ids.shape[1]} tokens have latents {tuple(codes.shape[1:-1])} "
                f"and the belief {tuple(belief.mean.shape[1:])}; use the escape NoEscape"
            )
        return belief._replace(mean=(codes * weight[..., None, :]).sum(-1))
