"""The flip clock: time runs evenly over the tokens that the denoiser still gets wrong."""

from collections.abc import Callable

import torch
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.schedules.base import Clock, known, likeliest
from textflow.types import Batch, Denoise, Latents, Logits

FEW = {2: (0.02,), 3: (0.5, 0.05)}  # flip rates of the interior times of grids too short for even ones


class Flip(Clock):
    """F(t), the roll-in flip rate: the share of tokens that the readout changes when it reads E[x | z_t] of real text
    in place of x [ours]. Interior times of a grid lie at F evenly spaced from high to low.

    As a law of time it is 1 - F(t) / F(0), so icdf(q) is where F = (1 - q) F(0); a grid of K >= 4 steps takes its
    quantiles 1 - f / F(0) at f = high ... low, and 3 and 2 steps take f = .5, .05 and f = .02, tuned on exact oracles.
    A drawn grid draws f evenly between high and low. It has to be measured with a trained denoiser, so it is a clock of
    sampling, or of a student's training.

    Args:
        high: flip rate at the first interior time, in (low, 1).
        low: flip rate at the last interior time, above 0.
        points: number of times at which the rate is measured, 0 and 1 among them.
    """

    rate: Tensor
    needs_denoiser = True

    def __init__(self, high: float = 0.4, low: float = 0.03, points: int = 33) -> None:
        super().__init__()
        if not 0 < low < high < 1 or points < 2:
            raise ValueError(f"Flip got high {high}, low {low}, {points} points; it needs 0 < low < high < 1, 2 points")
        self.high, self.low = high, low
        self.register_buffer("rate", torch.full((points,), torch.nan, dtype=torch.float64), persistent=False)

    @property
    def measured(self) -> bool:
        """Whether the law is known."""
        return known(self.rate)

    def assume_uniform(self) -> None:
        """Take F = 1 - t: for a dry run, whose denoiser has learned nothing that could be measured."""
        self.rate.copy_(torch.linspace(1, 0, len(self.rate), dtype=torch.float64))

    @torch.no_grad()
    def measure(
        self, read: Callable[[Latents], Logits], path: Path, x: Latents, batch: Batch, denoise: Denoise | None = None
    ) -> None:
        if denoise is None:
            raise ValueError(
                "the clock Flip follows a trained denoiser and got none: measure it after training, and train by the "
                "clock LogitNormal or DecodeError"
            )
        eps, valid, times = torch.randn_like(x), batch.mask, self._times()
        clean = likeliest(read, x)[valid]
        means = (denoise(path.mix(x, eps, t), t, None).mean for t in times[:-1].tolist())  # at t = 1 nothing flips
        flips = [(likeliest(read, mean)[valid] != clean).double().mean().to(times) for mean in means]
        rate = torch.stack([*flips, flips[0] * 0]).cummin(0).values
        if not rate[0] > max(self.high, *FEW[3]):
            raise ValueError(
                f"{rate[0]:.1%} of the tokens flip in pure noise: the clock Flip needs more than "
                f"{max(self.high, *FEW[3]):.0%}; use the clock LogitNormal"
            )
        self.rate.copy_(torch.lerp(rate, rate[0] * (1 - times), 1e-6))  # strictly falling: it can be inverted

    def icdf(self, q: Tensor) -> Tensor:
        return self.when((1 - q) * self._known()[0].to(q.device))

    def grid(self, steps: int, noise: Noise | None = None) -> list[float]:
        if steps < 2:
            return super().grid(steps, noise)
        if noise is not None:
            flips = self.high - (self.high - self.low) * noise.uniform(steps - 1)[0].sort().values
        elif steps in FEW:
            flips = torch.tensor(FEW[steps], dtype=torch.float64)
        else:
            flips = torch.linspace(self.high, self.low, steps - 1, dtype=torch.float64)
        return [0.0, *self.when(flips).tolist(), 1.0]

    def when(self, flips: Tensor) -> Tensor:
        """The times at which these shares of tokens flip, float64."""
        fall = -self._known().to(flips.device)
        right = torch.searchsorted(fall, -flips.contiguous()).clamp(1, len(fall) - 1)
        low, high = fall[right - 1], fall[right]
        return ((right - 1 + (-flips - low) / (high - low)) / (len(fall) - 1)).clamp(0, 1)

    def _times(self) -> Tensor:
        return torch.linspace(0, 1, len(self.rate), dtype=torch.float64, device=self.rate.device)

    def _known(self) -> Tensor:
        if not self.measured:
            raise ValueError(
                "the clock Flip is not measured yet: it needs a trained denoiser and real text (Clock.measure)"
            )
        return self.rate
