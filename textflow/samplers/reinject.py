"""Stochastic re-injection: step back by fresh noise, then forward."""

from dataclasses import dataclass
from typing import Literal

from textflow.noise import Noise
from textflow.paths import LinearPath, ProbPath
from textflow.samplers.base import Sampler, State, ask
from textflow.types import Denoise


@dataclass(frozen=True)
class Reinject(Sampler):
    """Back from t to a t, a = clip(1 - gamma (t_next - t), 0, 1), then forward. The last step is deterministic.

    Times count from the noisy end of the path, in units of its length; ELF's runs from 0 to 1 [ours: other ends].

    Args:
        gamma: strength, >= 0; 0 is the ODE.
        form: `code` adds (1 - a) sigma(t_min) noise, less than the path has at a t (ELF, released code); `paper`
            evaluates the network there but moves the old z (ELF, Alg. 6); both need the straight path.
            `marginal_preserving` adds the noise that keeps the path's marginal [ours]. Default: `code` on the straight
            path, `marginal_preserving` on others.
    """

    gamma: float = 1.5
    form: Literal["code", "paper", "marginal_preserving"] | None = None

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        z, t = state.z, state.t
        first, length = path.t_min, path.t_max - path.t_min
        keep = 1.0 if t_next >= path.t_max else min(max(1 - self.gamma * (t_next - t) / length, 0.0), 1.0)
        if keep == 1:
            belief = ask(denoise, state, t_next)
            return state.next(path.step(z, belief.mean, t, t_next), t_next, belief)
        form = self.form or ("code" if isinstance(path, LinearPath) else "marginal_preserving")
        if form != "marginal_preserving" and not isinstance(path, LinearPath):
            raise ValueError(f"{type(path).__name__} is not straight: Reinject needs form marginal_preserving on it")
        eps, back = noise.normal_like(z), first + keep * (t - first)
        if form == "marginal_preserving":
            noisy = path.rewind(z, eps, t, back)
        else:
            noisy = keep * z + (1 - keep) * path.mix(0 * z, eps, path.t_min)
        belief = ask(denoise, state._replace(z=noisy, t=back), t_next)
        if form == "paper":
            return state.next(path.step(z, belief.mean, t, t_next), t_next, belief)
        return state.next(path.step(noisy, belief.mean, back, t_next), t_next, belief)
