"""Commitment: the belief becomes tokens, and the tokens' clean latents carry z."""

from typing import Literal

import torch

from textflow.escapes.base import Embed, Escape, Gate, TokenLogits
from textflow.escapes.gates import Everywhere
from textflow.noise import Noise
from textflow.types import Ids, Logits, Posterior


class Commit(Escape):
    """mean <- embed(y) at the gate's positions, y from p(token | z_t) [ours]; unchanged at t = 0 (pure noise).

    All of y is embedded, since a codec may encode tokens in context; only gated positions are replaced.

    Args:
        choice: `mode` takes the likeliest token of each position; `sample` draws each position independently.
        gate: positions that commit; elsewhere the mean stays.
        temperature: temperature of sampled choices, above 0; it does not affect the gate.
    """

    def __init__(
        self, choice: Literal["mode", "sample"] = "mode", gate: Gate = Everywhere(), temperature: float = 1.0
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature = {temperature}: Commit needs one above 0; choice: mode is its limit at 0")
        self.choice, self.gate, self.temperature = choice, gate, temperature

    def forward(self, belief: Posterior, t: float, token_logits: TokenLogits, embed: Embed, noise: Noise) -> Posterior:
        if t <= 0:
            return belief
        logits = token_logits()
        y = self.choose_ids(logits, noise)
        x = embed(y).to(belief.mean)
        if x.shape != belief.mean.shape or y.shape != x.shape[:2]:
            raise ValueError(
                f"Commit needs a latent per token, but {y.shape[1]} tokens have latents {tuple(x.shape[1:])} and the "
                f"belief {tuple(belief.mean.shape[1:])}; use the escape NoEscape"
            )
        committed = self.gate(logits, belief.mean, t)
        return belief._replace(
            mean=torch.where(committed[..., None], x, belief.mean),
            committed=torch.where(committed, y, torch.full_like(y, -1)),
        )

    def choose_ids(self, logits: Logits, noise: Noise) -> Ids:
        """A token for every position, so that the random streams do not depend on the gate."""
        return logits.argmax(-1) if self.choice == "mode" else noise.choose(logits, self.temperature)
