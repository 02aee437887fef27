"""The readout-aware schedule: uniform in the readout's error rate."""

from collections.abc import Callable

import torch
from torch import Tensor

from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule, argmax_tokens, is_fitted
from textflow.types import Batch, Denoise, Latents, Logits


class DecodeError(TimeSchedule):
    """tau(t) = 1 - err(t) / err(0), err the fraction of tokens that the codec misreads from z_t.

    FLM (2602.16813) has it in closed form for one-hot latents; here it is measured, for any codec with a decoder.
    The CDF is (1 - uniform_mix) tau + uniform_mix t, made increasing and inverted by interpolation.

    Args:
        uniform_mix: weight of the uniform schedule, in (0, 1]; 1 is the uniform schedule.
        num_points: number of times at which the error is measured.
    """

    cdf: Tensor

    def __init__(self, uniform_mix: float = 0.1, num_points: int = 65) -> None:
        super().__init__()
        if not 0 < uniform_mix <= 1:
            raise ValueError(f"uniform_mix = {uniform_mix}: the schedule needs a weight of uniform time in (0, 1]")
        self.uniform_mix = uniform_mix
        self.register_buffer("cdf", torch.full((num_points,), torch.nan, dtype=torch.float64))

    @property
    def fitted(self) -> bool:
        """True once the error rates are measured."""
        return is_fitted(self.cdf)

    @property
    def cache_key(self) -> str:
        return f"{super().cache_key}-{self.uniform_mix:g}"

    def assume_uniform(self) -> None:
        """Use the uniform schedule: for a dry run, whose codec is untrained."""
        self.cdf.copy_(torch.linspace(0, 1, len(self.cdf), dtype=torch.float64))

    @torch.no_grad()
    def fit(
        self,
        decode: Callable[[Latents], Logits],
        path: ProbPath,
        x: Latents,
        batch: Batch,
        denoise: Denoise | None = None,
    ) -> None:
        eps, valid = torch.randn_like(x), batch.mask
        times = torch.linspace(0, 1, len(self.cdf), dtype=torch.float64)
        predictions = (argmax_tokens(decode, path.mix(x, eps, t)) for t in times.tolist())
        hits = [(ids == batch.ids)[valid].double().mean() for ids in predictions]
        gain = torch.stack(hits) - hits[0]
        if not gain[-1] > 0:
            raise ValueError(
                f"the codec decodes {hits[-1]:.1%} of the tokens from clean latents and {hits[0]:.1%} from noise: "
                "there is no decode error to follow; train the codec first or use the schedule LogitNormal"
            )
        tau = (gain / gain[-1]).clamp(0, 1).cummax(0).values
        self.cdf.copy_((1 - self.uniform_mix) * tau.to(self.cdf) + self.uniform_mix * times.to(self.cdf))

    def icdf(self, q: Tensor) -> Tensor:
        if not self.fitted:
            raise ValueError("the schedule DecodeError is not measured yet: `textflow fit` measures it before training")
        cdf = self.cdf.to(q.device)
        right = torch.searchsorted(cdf, q.contiguous()).clamp(1, len(cdf) - 1)
        low, high = cdf[right - 1], cdf[right]
        return ((right - 1 + (q - low) / (high - low)) / (len(cdf) - 1)).clamp(0, 1)
