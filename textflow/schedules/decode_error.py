"""The readout-aware clock: time runs evenly over what the readout still gets wrong."""

from collections.abc import Callable

import torch
from torch import Tensor

from textflow.paths.base import Path
from textflow.schedules.base import Clock, known, likeliest
from textflow.types import Batch, Denoise, Latents, Logits


class DecodeError(Clock):
    """tau(t) = 1 - err(t) / err(0), err the share of tokens that the codec's readout misses at z_t.

    FLM (2602.16813) has it in closed form for one-hot latents; here it is measured, so it suits any codec that reads.
    The law is (1 - even) tau + even t, made increasing, and inverted by interpolation.

    Args:
        even: share of uniform time, in (0, 1]; 1 is the uniform clock.
        points: number of times at which the error is measured.
    """

    share: Tensor

    def __init__(self, even: float = 0.1, points: int = 65) -> None:
        super().__init__()
        if not 0 < even <= 1:
            raise ValueError(f"even = {even}: the clock needs a share of uniform time in (0, 1]")
        self.even = even
        self.register_buffer("share", torch.full((points,), torch.nan, dtype=torch.float64))

    @property
    def measured(self) -> bool:
        """Whether the law is known."""
        return known(self.share)

    @property
    def title(self) -> str:
        return f"{super().title}-{self.even:g}"

    def assume_uniform(self) -> None:
        """Take the uniform law: for a dry run, whose codec has learned nothing that could be measured."""
        self.share.copy_(torch.linspace(0, 1, len(self.share), dtype=torch.float64))

    @torch.no_grad()
    def measure(
        self, read: Callable[[Latents], Logits], path: Path, x: Latents, batch: Batch, denoise: Denoise | None = None
    ) -> None:
        eps, valid = torch.randn_like(x), batch.mask
        times = torch.linspace(0, 1, len(self.share), dtype=torch.float64)
        said = (likeliest(read, path.mix(x, eps, t)) for t in times.tolist())
        hits = [(ids == batch.ids)[valid].double().mean() for ids in said]
        gain = torch.stack(hits) - hits[0]
        if not gain[-1] > 0:
            raise ValueError(
                f"the readout finds {hits[-1]:.1%} of the tokens in clean latents and {hits[0]:.1%} in noise: "
                "there is no decode error to follow; train the codec first or use the clock LogitNormal"
            )
        tau = (gain / gain[-1]).clamp(0, 1).cummax(0).values
        self.share.copy_((1 - self.even) * tau.to(self.share) + self.even * times.to(self.share))

    def icdf(self, q: Tensor) -> Tensor:
        if not self.measured:
            raise ValueError("the clock DecodeError is not measured yet: `textflow fit` measures it before training")
        share = self.share.to(q.device)
        right = torch.searchsorted(share, q.contiguous()).clamp(1, len(share) - 1)
        low, high = share[right - 1], share[right]
        return ((right - 1 + (q - low) / (high - low)) / (len(share) - 1)).clamp(0, 1)
