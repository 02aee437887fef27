"""The probability-flow ODE by Euler's rule."""

from dataclasses import dataclass

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
