"""Noise: one random stream a sample, so that a text depends on its seed and not on its batch or device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


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


def sample_seeds(seed: int, first: int, count: int) -> list[int]:
    """Seeds of the samples first ... first + count - 1 of a run, hashed so that neighbours are independent.

    Args:
        seed: random seed of the run, >= 0.
        first: index of the first sample, >= 0.
        count: number of samples.
    """
    return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(first, first + count)]
