"""Sampler: one step from noise towards text; `sample` is the only loop."""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import NamedTuple

import torch

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.types import Choice, Denoise, Ending, Latents, Posterior


class Sampler(ABC):
    """Carries z from t to u."""

    @abstractmethod
    def step(
        self,
        denoise: Denoise,
        path: Path,
        z: Latents,
        t: float,
        u: float,
        prev: Latents | None,
        noise: Noise,
        since: float | None = None,
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
            since: start of the step before, whose belief prev is; None in the first.

        Returns:
            z at u, and the belief that took it there.
        """


def levels(path: Path, t: float) -> tuple[float, float]:
    """alpha and sigma of a path at t, in float64."""
    time = torch.tensor(t, dtype=torch.float64)
    return float(path.alpha(time)), float(path.sigma(time))


def ending(denoise: Denoise, u: float) -> Denoise:
    """The same denoiser, which hears that the step ends at u where it listens: flow maps are told, others are not."""
    if isinstance(denoise, Ending):
        denoise.until = u
    return denoise


class Trace(NamedTuple):
    """What a sampling run met: final latents, and the time, the state before and the belief of each step."""

    z: Latents
    times: list[float]
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
    last: Denoise | None = None,
    logits: bool = True,
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
        last: denoises in the step to u = 1 (default: denoise); an escape has no later step to feed there.
        logits: whether the trace keeps those of all beliefs, [B, L, V] a step; else the last belief's alone.
    """

    def keep(x: Latents) -> Latents:
        return x if fixed is None or clean is None else torch.where(fixed[..., None], clean, x)

    z, prev = keep(z), None if fixed is None else keep(torch.zeros_like(z))
    states: list[Latents] = []
    beliefs: list[Posterior] = []
    since = None
    for t, u in pairwise(times):
        states.append(z)
        ask = ending(denoise, u)
        if last is not None and u >= 1:
            ask = ending(last, u)
        z, belief = sampler.step(ask, path, z, t, u, prev, noise, since)
        z, prev, since = keep(z), keep(belief.mean), t
        beliefs.append(belief if logits or u >= 1 else belief._replace(logits=None))
    return Trace(z, times[:-1], states, beliefs)
