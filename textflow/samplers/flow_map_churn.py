"""Gamma sampling of flow maps: jump past the end of the step, then come back by fresh noise (FMLM, DiLaDiff)."""

import math
from dataclasses import dataclass

from textflow.noise import Noise
from textflow.paths import LinearPath, ProbPath, TangentPath
from textflow.samplers.base import Sampler, State, ask
from textflow.types import Denoise


@dataclass(frozen=True)
class FlowMapChurn(Sampler):
    """From t to s, 1 - s = sqrt(1 - gamma^2) (1 - t_next), then back to t_next by noise: of std gamma sigma(t_next) on
    the straight path, as sqrt(1 - gamma^2) z + gamma eps on the tangent one (DiLaDiff, 2605.23605). The denoiser gets s
    as the end of its step: the time that the noised state comes from.

    Args:
        gamma: fraction of fresh noise at the end of a step, in [0, 1]; 0 is the flow map alone.
    """

    gamma: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma = {self.gamma}: FlowMapChurn needs a number in [0, 1]")

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        if not isinstance(path, LinearPath | TangentPath):
            raise ValueError(
                f"{type(path).__name__} is not straight: FlowMapChurn needs LinearPath or TangentPath; use Ancestral"
            )
        keep = math.sqrt(1 - self.gamma**2)
        ahead = min(1 - keep * (1 - t_next), max(path.t_max, t_next))
        belief = ask(denoise, state, ahead)
        z = path.step(state.z, belief.mean, state.t, ahead)
        if t_next >= path.t_max or self.gamma == 0:
            return state.next(z, t_next, belief)
        if isinstance(path, TangentPath):
            return state.next(keep * z + self.gamma * noise.normal_like(z), t_next, belief)
        fresh = self.gamma * path.alpha_sigma(t_next)[1] * noise.normal_like(z)
        return state.next(z + (t_next - ahead) * belief.mean + fresh, t_next, belief)
