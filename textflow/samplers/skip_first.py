"""A first step without a network evaluation."""

from dataclasses import dataclass

import torch

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State
from textflow.samplers.ode import Euler
from textflow.types import Denoise, Posterior


@dataclass(frozen=True)
class SkipFirstCall(Sampler):
    """`sampler`, but the first step only scales the noise, z_next = (sigma_next / sigma_0) z: K + 1 steps cost K
    network evaluations [ours].

    At pure noise the posterior is the prior whatever z is; its mean is taken for 0, as latents are centred. A grid of a
    single step is left to the sampler.

    Args:
        sampler: sampler of the other steps.
    """

    sampler: Sampler = Euler()

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        z, t = state.z, state.t
        if t > path.t_min or t_next >= path.t_max:
            return self.sampler.step(denoise, path, state, t_next, noise)
        scaled = z * (path.alpha_sigma(t_next)[1] / path.alpha_sigma(t)[1])
        return state.next(scaled, t_next, Posterior(torch.zeros_like(z)))
