"""Solvers of the probability-flow ODE."""

import math
from dataclasses import dataclass

import torch

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State, ask
from textflow.types import Denoise


@dataclass(frozen=True)
class Euler(Sampler):
    """z <- z + (t_next - t) v; the step to the clean end returns the posterior mean."""

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        belief = ask(denoise, state, t_next)
        return state.next(path.step(state.z, belief.mean, state.t, t_next), t_next, belief)


@dataclass(frozen=True)
class Heun(Sampler):
    """Euler's step, corrected with the mean of the velocities at both ends (two network evaluations, one in the
    last)."""

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        z, t, belief = state.z, state.t, ask(denoise, state, t_next)
        ahead = path.step(z, belief.mean, t, t_next)
        if t_next >= path.t_max:
            return state.next(ahead, t_next, belief)
        corrected = denoise(ahead, t_next, belief.mean, t_next, belief.carry)
        slope = path.velocity(z, belief.mean, t) + path.velocity(ahead, corrected.mean, t_next)
        return state.next(z + (t_next - t) / 2 * slope, t_next, corrected)


@dataclass(frozen=True)
class DPMSolverPP2M(Sampler):
    """DPM-Solver++(2M) (2211.01095, alg. 2), second order with one network evaluation per step: path.step towards
    x + (x - x_prev) h / (2 h'), h and h' the lengths of this step and the last in log-SNR, lambda = log(alpha / sigma).

    Where a length is infinite the step is first order: from pure noise and after it (h' = inf: the formula's limit),
    and to the clean end (h = inf: it has no limit). So are the first step, and positions that an escape has committed:
    nothing can be extrapolated across a choice.
    """

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        z, t, prev_t, belief = state.z, state.t, state.prev_t, ask(denoise, state, t_next)
        x = belief.mean
        if state.self_cond is not None and prev_t is not None and prev_t > path.t_min and t_next < path.t_max:
            scales = (path.alpha_sigma(time) for time in (prev_t, t, t_next))
            before, now, then = (math.log(alpha / sigma) for alpha, sigma in scales)
            x = x + (then - now) / (2 * (now - before)) * (x - state.self_cond)
            if belief.committed is not None:
                x = torch.where(belief.committed[..., None] >= 0, belief.mean, x)
        return state.next(path.step(z, x, t, t_next), t_next, belief)
