"""Exact teachers of texts of one token, and small students that are fitted to their targets."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.objectives.row_indices import row_indices
from textflow.oracle import Chain, ExactPosterior, GaussianAtoms
from textflow.oracle.tasks import normalise_codes, standard_normal
from textflow.paths import LinearPath
from textflow.types import Conditioning, Latents, Posterior, Times

PATH = LinearPath(2.0, 1e-3)


def make_posterior(vocab: int, dim: int, tau: float) -> ExactPosterior:
    """Posterior of texts of one token, all equally frequent."""
    uniform = torch.full((vocab,), 1 / vocab).double()
    codes = normalise_codes(standard_normal(Noise([1]), vocab, dim)).double()
    return ExactPosterior(Chain(uniform, uniform.expand(vocab, -1).contiguous()), GaussianAtoms(codes, tau), PATH)


def sample_latents(law: ExactPosterior, rows: int, seed: int) -> Latents:
    """Latents of texts, float64."""
    gen = torch.Generator().manual_seed(seed)
    ids = torch.randint(law.codec.vocab_size, (rows, 1), generator=gen)
    return law.codec.codes[ids] + law.codec.tau * torch.randn(rows, 1, law.dim, generator=gen).double()


def state(s: Times, seed: int, law: ExactPosterior) -> Latents:
    """Texts' latents on the path at the times s."""
    x = sample_latents(law, len(s), seed)
    return PATH.mix(x, torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1)).double(), s)


def no_rows(rows: int) -> Tensor:
    return row_indices(torch.zeros(rows, dtype=torch.bool))


class Student(nn.Module):
    """MLP of z, the time and the end time, in float64."""

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = [(dim + 2, width), (width, width), (width, dim)]
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes).double()

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        until = torch.ones_like(t) if cond.end_time is None else cond.end_time
        x = torch.cat([z, t[:, None, None].expand(*z.shape[:2], 1), until[:, None, None].expand(*z.shape[:2], 1)], -1)
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return Posterior(self.layers[-1](x))


def fit(student: Student, sample_batch: Callable[[int], tuple[Latents, Latents]], steps: int, lr: float = 5e-3) -> None:
    """Regress targets with Adam; `sample_batch` maps a step to predictions and targets."""
    optimizer = torch.optim.Adam(student.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        prediction, target_mean = sample_batch(step)
        (prediction - target_mean.detach()).square().mean().backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
