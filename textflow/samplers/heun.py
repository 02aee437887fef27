"""The probability-flow ODE at second order."""

from dataclasses import dataclass

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State, ask
from textflow.types import Denoise


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
