"""A task without context whose posterior is exact: independent tokens as Gaussian atoms."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from textflow.diagnostics.residual import TerminalPosterior, terminal_posterior
from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.types import Ids, Latents, Logits, Mask, Posterior


@dataclass(frozen=True)
class Codes:
    """x = E[y] + tau xi, y uniform; the readout chooses the nearest code.

    Args:
        codes: E, [V, d] float64.
        tau: standard deviation of an atom.
        path: probability path of x.
    """

    codes: Tensor
    tau: float = 0.0
    path: LinearPath = field(default=LinearPath(noise_scale=1.0))

    def draw(self, rows: int, length: int, seed: int = 0) -> tuple[Ids, Latents]:
        """Tokens and their latents."""
        noise = Noise(range(seed, seed + rows))
        ids = (noise.uniform(length) * len(self.codes)).long()
        return ids, self.codes[ids] + self.tau * noise.normal(length, self.codes.shape[1]).double()

    def read(self, z: Latents) -> Logits:
        return z @ self.codes.T - (self.codes**2).sum(-1) / 2

    def denoise(self, z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        """gamma and E[x | z_t], exactly."""
        var = (t * self.tau) ** 2 + (self.path.noise_scale * (1 - t)) ** 2
        logits = (t * z @ self.codes.T - t * t * (self.codes**2).sum(-1) / 2) / var
        c = logits.softmax(-1) @ self.codes
        return Posterior(c + t * self.tau**2 / var * (z - t * c), logits)


def pair(a: float, d: int, scale: float) -> Codes:
    """Two codes, +-a along the first axis."""
    codes = torch.zeros(2, d, dtype=torch.float64)
    codes[0, 0], codes[1, 0] = a, -a
    return Codes(codes, path=LinearPath(noise_scale=scale))


def atoms(V: int, d: int, tau: float, scale: float = 1.0, seed: int = 7) -> Codes:
    """V standard normal codes."""
    return Codes(Noise([seed]).normal(V, d)[0].double(), tau, LinearPath(noise_scale=scale))


def normal_cdf(u: float) -> float:
    return 0.5 * math.erfc(-u / math.sqrt(2))


class CommitInOrder(Escape):
    """Commits the n-th position of each text at the n-th call."""

    calls = 0

    def forward(
        self, belief: Posterior, t: float, tokens: Callable[[], Logits], embed: Callable[[Ids], Latents], noise: Noise
    ) -> Posterior:
        ids, at = tokens().argmax(-1), torch.arange(belief.mean.shape[1]) == self.calls
        self.calls += 1
        x = torch.where(at[None, :, None], embed(ids), belief.mean)
        return belief._replace(mean=x, committed=torch.where(at, ids, -1))


def text_and_mask(task: Codes, rows: int, length: int) -> tuple[Latents, Mask]:
    """Latents of text without padding."""
    return task.draw(rows, length)[1], torch.ones(rows, length, dtype=torch.bool)


def posterior_at(task: Codes, t: float, rows: int, length: int) -> TerminalPosterior:
    """Exact posterior on text noised to t."""
    x, mask = text_and_mask(task, rows, length)
    return terminal_posterior(task.denoise, task.path, x, mask, t, Noise(range(1000, 1000 + rows)))


def fresh_noise(rows: int) -> Noise:
    """Streams from which neither text nor states are drawn."""
    return Noise(range(5000, 5000 + rows))
