"""The probability-flow ODE at second order with one network evaluation a step."""

import math
from dataclasses import dataclass

import torch

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State, alpha_sigma, ask
from textflow.types import Denoise


@dataclass(frozen=True)
class DPMSolverPP2M(Sampler):
    """DPM-Solver++(2M) (2211.01095, alg. 2): path.step towards x + (x - x_prev) h / (2 h'), h and h' the lengths of
    this step and the last in log-SNR, lambda = log(alpha / sigma).

    Where a length is infinite the step is first order: from pure noise and after it (h' = inf: the formula's limit),
    and to the clean end (h = inf: it has no limit). So are the first step, and positions that an escape has committed:
    nothing can be extrapolated across a choice.
    """

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        z, t, prev_t, belief = state.z, state.t, state.prev_t, ask(denoise, state, t_next)
        x = belief.mean
        if state.self_cond is not None and prev_t is not None and prev_t > path.t_min and t_next < path.t_max:
            before, now, then = (log_snr(path, time) for time in (prev_t, t, t_next))
            x = x + (then - now) / (2 * (now - before)) * (x - state.self_cond)
            if belief.committed is not None:
                x = torch.where(belief.committed[..., None] >= 0, belief.mean, x)
        return state.next(path.step(z, x, t, t_next), t_next, belief)


def log_snr(path: ProbPath, t: float) -> float:
    """log(alpha_t / sigma_t), t strictly between noise and text."""
    alpha, sigma = alpha_sigma(path, t)
    return math.log(alpha / sigma)
