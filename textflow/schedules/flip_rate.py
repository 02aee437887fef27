"""The flip-rate schedule: uniform in the denoiser's rate of token errors."""

import torch
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.schedules.base import Decode, TimeSchedule, argmax_tokens, interpolate_inverse
from textflow.types import Batch, Denoise, Latents

SHORT_GRIDS = {2: (0.02,), 3: (0.5, 0.05)}  # flip rates of the interior times of grids too short for even ones


class FlipRate(TimeSchedule):
    """F(t), the roll-in flip rate: the fraction of tokens that change when E[x | z_t] of real text is decoded in place
    of x [ours]. Interior times of a grid lie at F evenly spaced from max_flip_rate to min_flip_rate.

    Its CDF is 1 - F(t) / F(0), so F(icdf(q)) = (1 - q) F(0). A grid of K >= 4 steps takes the quantiles 1 - f / F(0) at
    f = max_flip_rate ... min_flip_rate; 3 and 2 steps take f = .5, .05 and f = .02, tuned on exact oracles. A random
    grid draws f uniformly. The fit needs a trained denoiser, so the schedule is for sampling or for training a student.

    Args:
        max_flip_rate: flip rate at the first interior time, in (min_flip_rate, 1).
        min_flip_rate: flip rate at the last interior time, above 0.
        num_points: number of times at which the rate is measured, including 0 and 1.
    """

    flip_rate: Tensor
    needs_denoiser = True

    def __init__(self, max_flip_rate: float = 0.4, min_flip_rate: float = 0.03, num_points: int = 33) -> None:
        super().__init__()
        if not 0 < min_flip_rate < max_flip_rate < 1 or num_points < 2:
            raise ValueError(
                f"FlipRate got max_flip_rate={max_flip_rate}, min_flip_rate={min_flip_rate}, num_points={num_points}; "
                "it needs 0 < min_flip_rate < max_flip_rate < 1 and 2 points"
            )
        self.max_flip_rate, self.min_flip_rate = max_flip_rate, min_flip_rate
        self.register_buffer("flip_rate", torch.full((num_points,), torch.nan, dtype=torch.float64), persistent=False)

    def assume_uniform(self) -> None:
        """Use F = 1 - t: for a dry run, whose denoiser is untrained."""
        self.flip_rate.copy_(torch.linspace(1, 0, len(self.flip_rate), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, decode: Decode, path: ProbPath, x: Latents, batch: Batch, denoise: Denoise | None = None) -> None:
        if denoise is None:
            raise ValueError(
                "the schedule FlipRate needs a trained denoiser and got none: fit it after training, and train "
                "with the schedule LogitNormal or DecodeError"
            )
        eps, valid = torch.randn_like(x), batch.mask
        times = torch.linspace(0, 1, len(self.flip_rate), dtype=torch.float64, device=self.flip_rate.device)
        clean = argmax_tokens(decode, x)[valid]
        means = (denoise(path.mix(x, eps, t), t, None).mean for t in times[:-1].tolist())  # at t = 1 nothing flips
        flips = [(argmax_tokens(decode, mean)[valid] != clean).double().mean().to(times) for mean in means]
        rate = torch.stack([*flips, flips[0] * 0]).cummin(0).values
        if not rate[0] > (least := max(self.max_flip_rate, *SHORT_GRIDS[3])):
            raise ValueError(
                f"{rate[0]:.1%} of the tokens flip in pure noise: the schedule FlipRate needs more than {least:.0%}; "
                "use the schedule LogitNormal"
            )
        self.flip_rate.copy_(torch.lerp(rate, rate[0] * (1 - times), 1e-6))  # strictly decreasing, so invertible

    def icdf(self, q: Tensor) -> Tensor:
        return self.times_at((1 - q) * self._fitted_rate()[0].to(q.device))

    def grid(self, steps: int, noise: Noise | None = None, t_min: float = 0.0, t_max: float = 1.0) -> list[float]:
        if steps < 2:
            return super().grid(steps, noise, t_min, t_max)
        if noise is not None:
            q = noise.uniform(steps - 1)[0].sort().values
            flips = self.max_flip_rate - (self.max_flip_rate - self.min_flip_rate) * q
        elif steps in SHORT_GRIDS:
            flips = torch.tensor(SHORT_GRIDS[steps], dtype=torch.float64)
        else:
            flips = torch.linspace(self.max_flip_rate, self.min_flip_rate, steps - 1, dtype=torch.float64)
        return [t_min, *self.times_at(flips).clamp(t_min, t_max).tolist(), t_max]

    def times_at(self, flips: Tensor) -> Tensor:
        """The times with these flip rates, float64."""
        return interpolate_inverse(-self._fitted_rate().to(flips.device), -flips)

    def _fitted_rate(self) -> Tensor:
        if not self.fitted:
            raise ValueError(
                "the schedule FlipRate is not measured yet: it needs a trained denoiser and real text "
                "(TimeSchedule.fit)"
            )
        return self.flip_rate
