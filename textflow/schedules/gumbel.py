"""The time schedule of LangFlow: Gumbel noise levels, whose law is learned so that information arrives evenly."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.schedules.base import TimeSchedule

MIN_SCALE = 1e-4


class Gumbel(TimeSchedule):
    """t = -gamma, gamma = loc - scale ln(-ln p), p uniform between cutoff and 1 - cutoff (LangFlow, 2604.11748).

    The information-uniform rule: gamma is as dense as the cross-entropy H(gamma) of a token is steep. H is taken for
    entropy exp(-exp(-(gamma - loc) / scale)), so a fit of H (`expected_nll`) fits the schedule too.

    Args:
        loc: mode of gamma, the log noise-to-signal ratio; initial value if it is trained.
        scale: scale of gamma, above 0; initial value if it is trained.
        entropy: cross-entropy of a token in pure noise, nats; initial value if it is trained.
        cutoff: quantile at which gamma is cut off at both ends, in (0, .5).
        trainable: whether the objective trains loc, scale and entropy.
    """

    def __init__(
        self,
        loc: float = 0.0,
        scale: float = 1.0,
        entropy: float = 5.0,
        cutoff: float = 1e-5,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        if not (scale > 0 and 0 < cutoff < 0.5):
            raise ValueError(f"Gumbel got scale {scale} and cutoff {cutoff}; needs a scale > 0, a cutoff in (0, .5)")
        self.cutoff, self.trainable = cutoff, trainable
        self.loc, self.scale, self.entropy = (
            nn.Parameter(torch.tensor(float(value)), requires_grad=trainable) for value in (loc, scale, entropy)
        )

    @property
    def law(self) -> tuple[float, float]:
        """loc and scale, as numbers."""
        return float(self.loc.detach()), max(float(self.scale.detach()), MIN_SCALE)

    @property
    def log_snr(self) -> bool:
        return True

    @property
    def t_last(self) -> float:
        return -self.gamma_min

    @property
    def gamma_min(self) -> float:
        """Smallest gamma, the clean end: loc - scale ln(-ln cutoff)."""
        loc, scale = self.law
        return loc - scale * math.log(-math.log(self.cutoff))

    @property
    def gamma_max(self) -> float:
        """Largest gamma, the noisy end: loc - scale ln(cutoff)."""
        loc, scale = self.law
        return loc - scale * math.log(self.cutoff)

    def icdf(self, q: Tensor) -> Tensor:
        q = q.double().clamp(self.cutoff, 1 - self.cutoff)
        return self._times((-torch.log1p(-q)).log())

    def _times(self, standard: Tensor) -> Tensor:
        """scale s - loc, without gradient; on the device of s, so that the host does not wait for a GPU."""
        loc, scale = self.loc.detach().to(standard), self.scale.detach().clamp_min(MIN_SCALE).to(standard)
        return scale * standard - loc

    def grid(
        self, steps: int, noise: Noise | None = None, t_min: float = -math.inf, t_max: float = math.inf
    ) -> list[float]:
        """Times at the quantiles linspace(1 - cutoff, cutoff, steps) of gamma, then t_max: the last step only reads the
        belief at the clean end of the law out (LangFlow, released code).

        Args:
            steps: number of steps, one network call each.
            noise: random stream of the times; None takes the quantiles.
            t_min: noisy end of the path; no time lies before it.
            t_max: clean end of the path.
        """
        if noise is not None:
            return super().grid(steps, noise, t_min, t_max)
        if steps < 1:
            raise ValueError(f"a grid of {steps} steps: it needs at least 1")
        p = torch.linspace(1 - self.cutoff, self.cutoff, steps, dtype=torch.float32)
        times = self.released_icdf(p).clamp(-self.gamma_max, -self.gamma_min)
        return [*times.clamp(t_min, t_max).tolist(), t_max]

    def released_icdf(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Times of quantiles p of gamma, float32, as the released code rounds them: its uniform law ends at 1 - eps and
        is centred, so that gamma ends 1e-2 before gamma_max and 1e-4 after gamma_min."""
        p = (p - 0.5) + 0.5
        q = 1 - (p * (1 - torch.finfo(torch.float32).eps)).double()
        return self._times((-torch.log1p(-q)).log())

    def log_pdf(self, t: Tensor) -> Tensor:
        """Log density of gamma at t = -gamma, without the cut-off."""
        u = (t + self.loc) / self.scale.clamp_min(MIN_SCALE)
        return u - u.exp() - self.scale.clamp_min(MIN_SCALE).log()

    def expected_nll(self, t: Tensor) -> Tensor:
        """H(gamma) at t = -gamma, nats per token: entropy exp(-exp((t + loc) / scale))."""
        return self.entropy * torch.exp(-torch.exp((t + self.loc) / self.scale.clamp_min(MIN_SCALE)))
