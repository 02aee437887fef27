"""The probability-flow ODE at second order and one pass a step."""

import math
from dataclasses import dataclass

import torch

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler, levels
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class Multistep(Sampler):
    """DPM-Solver++(2M) (2211.01095, alg. 2): path.step towards x + (x - prev) h / (2 h'), h and h' the lengths of this
    step and the last in log-SNR, lambda = log(alpha / sigma).

    Where a length is infinite the step is first order: from t = 0 and after it (h' = inf: the formula's limit), and to
    u = 1 (h = inf: it has no limit). So are the first step, and positions that an escape has chosen: nothing can be
    extrapolated across a choice.
    """

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
        belief = denoise(z, t, prev)
        x = belief.mean
        if prev is not None and since is not None and since > 0 and u < 1:
            before, now, then = (log_snr(path, time) for time in (since, t, u))
            x = x + (then - now) / (2 * (now - before)) * (x - prev)
            if belief.chosen is not None:
                x = torch.where(belief.chosen[..., None] >= 0, belief.mean, x)
        return path.step(z, x, t, u), belief


def log_snr(path: Path, t: float) -> float:
    """log(alpha_t / sigma_t), 0 < t < 1."""
    alpha, sigma = levels(path, t)
    return math.log(alpha / sigma)
