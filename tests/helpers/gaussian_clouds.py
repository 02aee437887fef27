"""A law whose denoiser is exact: tokens are Gaussian clouds, their posterior is Bayes' rule."""

import torch
from torch import Tensor

from textflow.distill.targets import DenoiserFn
from textflow.paths import LinearPath
from textflow.types import Conditioning, Latents, Posterior, Times

ROWS, LENGTH, DIM = 5, 6, 8
FREE, CLAMPED = LinearPath(2.0, 1e-9), LinearPath(2.0, 0.3)


def codes() -> Tensor:
    """Middles of the clouds."""
    torch.manual_seed(0)
    return torch.randn(16, DIM, dtype=torch.float64)


def exact(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """E[x | z_t] of clouds of width .3, a little nearer to its own last guess where it is shown one."""
    t, words = t.double()[:, None, None], codes()
    var = (t * 0.3) ** 2 + (2 * (1 - t)) ** 2
    middle = ((t * (z @ words.T) - t**2 * (words**2).sum(-1) / 2) / var).softmax(-1) @ words
    mean = middle + t * 0.09 / var * (z - t * middle)
    return Posterior(mean if cond.self_cond is None else mean + 0.1 * cond.self_cond)


class Counting:
    """A teacher that knows how many rows it was asked for."""

    def __init__(self, guess: DenoiserFn) -> None:
        self.guess, self.rows = guess, 0

    def __call__(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        self.rows += len(z)
        return self.guess(z, t, cond)


def start(end: float | None = None, path: LinearPath = FREE) -> tuple[Latents, Times, Times]:
    """z at s, s, and u: a quarter later, or `end`."""
    torch.manual_seed(1)
    s = 0.1 + 0.5 * torch.rand(ROWS, dtype=torch.float64)
    u = s + 0.25 if end is None else torch.full_like(s, end)
    x = codes()[torch.randint(16, (ROWS, LENGTH))]
    return path.mix(x, torch.randn_like(x), s), s, u


def some() -> Tensor:
    """The rows that see their own guess."""
    return torch.tensor([True, False, True, False, False])
