"""Commitment: the belief becomes tokens, and the tokens' clean latents carry z."""

from collections.abc import Callable
from typing import Literal

import torch

from textflow.escapes.base import Escape, Gate
from textflow.escapes.gates import All
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Posterior


class Commit(Escape):
    """mean <- embed(y) where the gate says so, y chosen by p(token | z_t) [ours]; nothing at t = 0: z tells nothing.

    All of y is embedded, since a codec may read tokens in context, and only chosen positions are taken.

    Args:
        choice: `mode` takes the likeliest token: all positions follow the shared z; `sample` draws each on its own.
        gate: where; elsewhere the mean stays.
        temperature: of sampled choices, above 0; the gate does not see it.
    """

    def __init__(
        self, choice: Literal["mode", "sample"] = "mode", gate: Gate = All(), temperature: float = 1.0
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature = {temperature}: Commit needs one above 0; choice: mode is its limit at 0")
        self.choice, self.gate, self.temperature = choice, gate, temperature

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
        y = self.choose(logits, noise)
        x = embed(y).to(belief.mean)
        if x.shape != belief.mean.shape or y.shape != x.shape[:2]:
            raise ValueError(
                f"Commit needs a latent a token, but {y.shape[1]} tokens have latents {tuple(x.shape[1:])} and the "
                f"belief {tuple(belief.mean.shape[1:])}; use the escape Soft"
            )
        chosen = self.gate(logits, belief.mean, t)
        return belief._replace(
            mean=torch.where(chosen[..., None], x, belief.mean), chosen=torch.where(chosen, y, torch.full_like(y, -1))
        )

    def choose(self, logits: Logits, noise: Noise) -> Ids:
        """A token for every position: the streams are used alike whatever the gate says. Sampled by Gumbel's rule,
        argmax(logits / temperature - log(-log uniform)), in float64."""
        if self.choice == "mode":
            return logits.argmax(-1)
        uniform = noise.uniform(*logits.shape[1:]).to(logits.device)
        return (logits.double() / self.temperature - (-uniform.log()).log()).argmax(-1)
