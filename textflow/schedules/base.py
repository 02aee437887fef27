"""Clock: a law of time on [0, 1], for the times of training and for the grid of sampling."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.paths.base import Path
from textflow.types import Batch, Denoise, Latents, Logits

LOGITS = 2**26  # in memory at once while a clock is measured


def likeliest(read: Callable[[Latents], Logits], z: Latents) -> Tensor:
    """The tokens that are read out of z, as many rows at a time as bound the logits.

    Args:
        read: latents -> logits.
        z: latents.
    """
    rows = max(LOGITS // max(read(z[:1])[0].numel(), 1), 1)
    return torch.cat([read(part).argmax(-1) for part in z.split(rows)])  # type: ignore[no-untyped-call]


def known(law: Tensor) -> bool:
    """Whether a buffer holds a law, which is NaN until it is measured. Asked of each state of the buffer once: the host
    would wait for a GPU in every step."""
    state = (law.data_ptr(), law._version)
    if getattr(law, "_known_at", None) != state:
        law._known, law._known_at = not bool(law.isnan().any()), state  # type: ignore[attr-defined]
    return law._known  # type: ignore[attr-defined]


class Clock(nn.Module, ABC):
    """A law of time, given by its quantiles. A module, so that a measured law is saved with the weights."""

    needs_denoiser: bool = False  # whether the law is measured with a trained denoiser

    @property
    def measured(self) -> bool:
        """Whether the law is known."""
        return True

    @property
    def title(self) -> str:
        """Names what is measured: two clocks of one title have one law, of one model."""
        return "-".join([type(self).__name__, *(str(len(law)) for law in self.buffers(recurse=False))])

    def assume_uniform(self) -> None:
        """Take the uniform law where nothing can be measured yet: for a dry run."""

    @abstractmethod
    def icdf(self, q: Tensor) -> Tensor:
        """Quantiles q in [0, 1], float64 -> times in [0, 1], increasing."""

    def measure(
        self, read: Callable[[Latents], Logits], path: Path, x: Latents, batch: Batch, denoise: Denoise | None = None
    ) -> None:
        """Fit a law that depends on the codec or on the denoiser (nothing to do for the others).

        Args:
            read: clean latents -> logits.
            path: how x is noised.
            x: latents of the batch.
            batch: ids that the readout should find.
            denoise: a trained one, where there is one.
        """

    def draw(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Random times [*shape], float32, from torch's own stream."""
        return self.icdf(torch.rand(shape, dtype=torch.float64, device=device)).float()

    def grid(self, steps: int, noise: Noise | None = None) -> list[float]:
        """steps + 1 increasing times from 0 to 1.

        Args:
            steps: number of steps.
            noise: draws the interior times (ELF's official grid); without it they are the quantiles i / steps.
        """
        if steps < 1:
            raise ValueError(f"a grid of {steps} steps: it needs at least 1")
        q = torch.arange(1, steps, dtype=torch.float64) / steps
        if noise is not None:
            q = noise.uniform(steps - 1)[0].sort().values
        device = next((buffer.device for buffer in self.buffers()), None)
        return [0.0, *self.icdf(q.to(device)).tolist(), 1.0]
