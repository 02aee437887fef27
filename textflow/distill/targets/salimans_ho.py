"""Progressive distillation as it was first: the student becomes the teacher, steps halve."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from textflow.distill.targets.base import Guess, Lesson, Target, Walk
from textflow.distill.targets.progressive import between, walk
from textflow.objectives.row_indices import Places
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Times


@dataclass(frozen=True)
class SalimansHo(Target):
    """Two steps of the teacher, of equal length, in one of the student (2202.00512). For a teacher that is the last
    round's student: `Distill(renew=True)`.

    Args:
        weight: of a row's error: `truncated` is max(SNR, 1), `snr+1` is SNR + 1, `one` is 1; SNR is that of the path
            at s for latents of unit variance.
    """

    weight: Literal["truncated", "snr+1", "one"] = "truncated"

    def times(self, s: Times, u: Times, clock: Clock) -> Walk:
        return between(s, u, torch.full_like(s, 0.5)[:, None])

    @torch.no_grad()
    def __call__(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places
    ) -> Lesson:
        return walk(teacher, path, z, times, given, again)._replace(weight=self.of(path, times[:, 0]))

    def of(self, path: Path, s: Times) -> Tensor:
        """The weight at time s."""
        snr = (path.alpha(s) / path.sigma(s).clamp_min(1e-4)) ** 2
        return {"truncated": snr.clamp_min(1), "snr+1": snr + 1, "one": torch.ones_like(snr)}[self.weight]
