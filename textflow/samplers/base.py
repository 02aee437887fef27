"""Sampler: one step from noise towards text; `sample` is the only loop."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.types import Choice, Denoise, Latents, Posterior


class Sampler(ABC):
    """Carries z from t to u."""

    @abstractmethod
    def step(
        self, denoise: Denoise, path: Path, z: Latents, t: float, u: float, prev: Latents | None, noise: Noise
    ) -> tuple[Latents, Posterior]:
        """
        Args:
            denoise: (z, t, prev) -> belief.
            path: carries z.
            z: at t.
            t: start of the step.
            u: end of the step, t < u <= 1.
            prev: the last belief's mean.
            noise: the samples' own streams.

        Returns:
            z at u, and the belief that took it there.
        """


class Trace(NamedTuple):
    """What a sampling run met: final latents, the state before each step and the belief of each step."""

    z: Latents
    states: list[Latents]
    beliefs: list[Posterior]


def sample(
    denoise: Denoise,
    sampler: Sampler,
    path: Path,
    times: list[float],
    z: Latents,
    noise: Noise,
    clean: Latents | None = None,
    fixed: Choice | None = None,
) -> Trace:
    """Walk z along the grid.

    Args:
        denoise: (z, t, prev) -> belief.
        sampler: the step.
        path: carries z.
        times: increasing, from 0 to 1.
        z: noise at times[0].
        noise: the samples' own streams.
        clean: latents of a prompt.
        fixed: True where the prompt stands; it is put back after each step.
    """

    def keep(x: Latents) -> Latents:
        return x if fixed is None or clean is None else torch.where(fixed[..., None], clean, x)

    z, prev = keep(z), None if fixed is None else keep(torch.zeros_like(z))
    states: list[Latents] = []
    beliefs: list[Posterior] = []
    for t, u in zip(times, times[1:], strict=False):
        states.append(z)
        z, belief = sampler.step(denoise, path, z, t, u, prev, noise)
        z, prev = keep(z), keep(belief.mean)
        beliefs.append(belief)
    return Trace(z, states, beliefs)
