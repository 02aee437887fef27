"""CCI of a diffusion over tokens."""

from dataclasses import dataclass, field
from typing import Any

import torch

from textflow.diagnostics.cci import cci
from textflow.discrete import Absorbing
from textflow.discrete.denoiser import TokenDenoiseFn
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.noise import Noise
from textflow.types import Ids


@dataclass
class RecordingDenoise(TokenDenoiseFn):
    """Network that records the time and the token ids of each call."""

    calls: list[tuple[float, Ids]] = field(default_factory=list)

    def __call__(self, ids: Ids, t: float, *rest: Any) -> torch.Tensor:
        self.calls.append((t, ids))
        return super().__call__(ids, t, *rest)


@torch.no_grad()
def discrete_cci(model: DiscreteDiffusion, seeds: list[int], steps: int) -> tuple[float, Ids]:
    """CCI [ours] of samples, and the samples: an unmasked token is fed as it is; a token of the uniform process counts
    as much as it survives, which is its evidence above chance.

    Args:
        model: diffusion over tokens, with its own sampler.
        seeds: random seeds, one per sample.
        steps: number of sampling steps.
    """
    denoise, noise = RecordingDenoise(**vars(model.denoise_fn())), Noise(seeds)
    times = model.sampling_schedule.grid(steps, t_min=0.0, t_max=1.0)
    ids = model.eval().sampler.sample(denoise, model.initial_ids(model.text_format.seq_length, noise), times, noise)
    fed, called = [ids for _, ids in denoise.calls], torch.tensor([t for t, _ in denoise.calls], dtype=torch.float64)
    weights = denoise.process.survival(called).tolist()
    if isinstance(denoise.process, Absorbing):
        mask_id = denoise.net.vocab_size - 1
        fed, weights = [each.masked_fill(each == mask_id, -1) for each in fed], [1.0] * len(fed)
    return cci(fed, ids, weights, ids >= 0).value, ids
