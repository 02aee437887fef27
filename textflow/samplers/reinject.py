"""Stochastic re-injection: step back by fresh noise, then forward."""

from dataclasses import dataclass
from typing import Literal

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.samplers.base import Sampler
from textflow.types import Denoise, Latents, Posterior


@dataclass(frozen=True)
class Reinject(Sampler):
    """Back from t to a t, a = clip(1 - gamma (u - t), 0, 1), then forward to u. The last step is deterministic.

    Args:
        gamma: strength, >= 0; 0 is the ODE.
        form: `released` adds (1 - a) sigma(0) noise, less than the path has at a t (ELF, released code); `printed` asks
            the network there but moves the old z (ELF, Alg. 6); `exact` adds what keeps the marginal [ours].
    """

    gamma: float = 1.5
    form: Literal["released", "printed", "exact"] = "released"

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
        keep = 1.0 if u >= 1 else min(max(1 - self.gamma * (u - t), 0.0), 1.0)
        if keep == 1:
            belief = denoise(z, t, prev)
            return path.step(z, belief.mean, t, u), belief
        eps, back = noise.normal_like(z), keep * t
        if self.form == "exact":
            noisy = path.rewind(z, eps, t, back)
        else:
            noisy = keep * z + (1 - keep) * path.mix(0 * z, eps, 0.0)
        belief = denoise(noisy, back, prev)
        if self.form == "printed":
            return path.step(z, belief.mean, t, u), belief
        return path.step(noisy, belief.mean, back, u), belief
