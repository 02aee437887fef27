"""Objective: what a denoiser is trained for."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from textflow.nets.base import Denoiser
from textflow.paths.base import Path
from textflow.types import Batch, Latents


class Objective(nn.Module, ABC):
    """Losses of a denoiser; the entry "loss" is minimised, and "tokens", if there, is how many it is a mean over."""

    def learn_from(self, objective: "Objective", teacher: Denoiser) -> None:
        """Take a teacher, for objectives that need one.

        Args:
            objective: that the teacher was trained for.
            teacher: trained.
        """
        raise ValueError(f"{type(self).__name__} learns from data, not from a teacher; use the objective Distill")

    @abstractmethod
    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        """
        Args:
            net: is trained.
            path: how x is noised.
            x: clean latents.
            batch: ids and mask behind x.
        """
