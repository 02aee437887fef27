"""Low-noise resampling: the belief is put back nearly without noise, and the network corrects it."""

from dataclasses import dataclass

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State, alpha_sigma, ask
from textflow.types import Denoise


@dataclass(frozen=True)
class LowNoiseResample(Sampler):
    """z_next = alpha x + noise_fraction sigma eps, x the belief's mean: a second look at the tokens of an escape
    [ours].

    The network takes z_next for text under all of sigma, so that it trusts no token more than its neighbours, while
    little fresh noise hides them. Use a grid that hardly moves: the flip-rate schedule from .2 to .15. The first step
    gives z the spread of noised text, sigma^2 + alpha^2 (1 - x^2), as latents have unit variance; x alone lacks it.

    Args:
        noise_fraction: fraction of the path's noise, in [0, 1]; 0 is for beliefs that are sharp but no tokens
            (Sharpen).
    """

    noise_fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.noise_fraction <= 1:
            raise ValueError(
                f"noise_fraction = {self.noise_fraction}: LowNoiseResample needs a number in [0, 1]; Ancestral has "
                "all of the path's noise"
            )

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        belief = ask(denoise, state, t_next)
        x = belief.mean
        if t_next >= path.t_max:
            return state.next(x, t_next, belief)
        fresh, (alpha, sigma) = noise.normal_like(state.z), alpha_sigma(path, t_next)
        if state.t <= path.t_min:
            spread = (sigma**2 + alpha**2 * (1 - x**2).clamp_min(0)).sqrt()
            return state.next(alpha * x + spread * fresh, t_next, belief)
        return state.next(alpha * x + self.noise_fraction * sigma * fresh, t_next, belief)
