"""Noise: one random stream per sample, so that a text depends on its seed and not on its batch or device."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NO_MORE_NOISE = "a text that is a function of its latents has no other noise; use one step per group by the ODE"


class Noise:
    """Random streams of a batch of samples; row b draws from the stream of seeds[b] alone, always on the CPU.

    Args:
        seeds: random seeds, one a sample.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.streams = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def rows(self, index: Sequence[int]) -> "Noise":
        """The streams of some rows, which continue from here in both."""
        part = Noise([])
        part.streams = [self.streams[i] for i in index]
        return part

    def normal(self, *shape: int) -> Tensor:
        """Standard normal [B, *shape], float32."""
        try:
            return torch.stack([torch.randn(shape, generator=stream) for stream in self.streams])
        except RuntimeError as error:
            size, why = " x ".join(map(str, shape)), str(error).splitlines()[0]
            raise ValueError(f"no noise of {size} a sample: {why}; use another length or a smaller batch") from error

    def normal_like(self, z: Tensor) -> Tensor:
        """Standard normal of z's shape [B, ...], type and device."""
        return self.normal(*z.shape[1:]).to(z)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on (0, 1) [B, *shape], float64, so that sampled readouts resolve their tails."""
        tiny = torch.finfo(torch.float64).tiny
        rows = [torch.rand(shape, generator=stream, dtype=torch.float64) for stream in self.streams]
        return torch.stack(rows).clamp_min(tiny)

    def choose(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Entries drawn from softmax(logits / temperature) over the last axis [B, ..., N] -> [B, ...]: Gumbel's rule,
        argmax(logits / temperature - log(-log uniform)), in float64."""
        uniform = self.uniform(*logits.shape[1:]).to(logits.device)
        return (logits.double() / temperature - (-uniform.log()).log()).argmax(-1)


class LatentNoise(Noise):
    """Random choices that are functions of normal latents, one a position: noise -> text becomes a function that a
    network can learn [ours].

    Entry k belongs to coordinate k mod d of its position, whose Gumbel number is -log(-log Phi(z)). The coordinate with
    the largest sum of log probability and Gumbel number is chosen. Which one it is and how large the sum is are
    independent, so that the sum chooses among the entries of the coordinate: each choice follows its softmax exactly.

    Args:
        z: standard normal numbers [B, S, d].
    """

    def __init__(self, z: Tensor) -> None:
        super().__init__([])
        self.z = z.double()

    def choose(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """As `Noise.choose`, of one softmax a position [B, S, N] -> [B, S]."""
        if logits.shape[:-1] != self.z.shape[:-1]:
            raise ValueError(
                f"choices of {list(logits.shape[:-1])} cannot be functions of latents of {list(self.z.shape[:-1])}: "
                "each needs its own; use a codec with a latent per token"
            )
        entries, dim = logits.shape[-1], self.z.shape[-1]
        log_p = F.pad((logits.double() / temperature).log_softmax(-1), (0, -entries % dim), value=-torch.inf)
        log_p = log_p.view(*log_p.shape[:-1], -1, dim)  # [B, S, entries of a coordinate, d]
        sums = log_p.logsumexp(-2) - (-torch.special.log_ndtr(self.z)).log()
        largest, coordinate = sums.max(-1)
        inner = log_p.gather(-1, coordinate[..., None, None].expand(*log_p.shape[:-1], 1))[..., 0].softmax(-1)
        uniform = torch.exp(-torch.exp(-largest))  # Gumbel's distribution function
        below = inner.cumsum(-1) <= uniform.clamp_max(1 - 1e-9)[..., None]  # the sum may end at 1 - 1e-16
        return below.sum(-1) * dim + coordinate

    def normal(self, *shape: int) -> Tensor:
        raise ValueError(NO_MORE_NOISE)

    def uniform(self, *shape: int) -> Tensor:
        raise ValueError(NO_MORE_NOISE)


def sample_seeds(seed: int, first: int, count: int) -> list[int]:
    """Seeds of the samples first ... first + count - 1 of a run, hashed so that neighbours are independent.

    Args:
        seed: random seed of the run, >= 0.
        first: index of the first sample, >= 0.
        count: number of samples.
    """
    return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(first, first + count)]
