"""Objective: what a denoiser is trained for."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.types import Batch, Latents, Mask, RowMask, Times


class Draws(NamedTuple):
    """Random numbers of one training step; parts that an objective does not use are None.

    Args:
        t: times of the rows [B], or of their positions [B, S].
        eps: noise, standard normal [B, S, d].
        self_cond: True on rows that are conditioned on their own prediction [B].
        guidance: self-conditioning guidance scale [B].
    """

    t: Times
    eps: Latents
    self_cond: RowMask | None = None
    guidance: Times | None = None


class RowCounts(NamedTuple):
    """Numbers of rows of each kind in a batch.

    Args:
        decode: rows that learn to decode.
        self_cond: rows that are conditioned on their own prediction.
    """

    decode: int
    self_cond: int


def combine_losses(
    squared: Tensor, nll: Tensor, valid: Mask, decode: RowMask, head_nll: Tensor | None, head_loss_weight: float
) -> dict[str, Tensor]:
    """The loss with one denominator, and each part's own mean, from sums over denoising tokens (squared error, and
    cross-entropy of a commitment head) and over decoding tokens (cross-entropy)."""
    total, decoded = valid.sum(), (valid & decode[:, None]).sum()
    denoised = (total - decoded).clamp_min(1)
    losses = {
        "loss": (squared + nll) / total.clamp_min(1),
        "tokens": total,
        "mse": squared.detach() / denoised,
        "decode_ce": nll.detach() / decoded.clamp_min(1),
    }
    if head_nll is not None:
        losses["loss"] = losses["loss"] + head_loss_weight * head_nll / total.clamp_min(1)
        losses["commitment_head_ce"] = head_nll.detach() / denoised
    return losses


class Objective(nn.Module, ABC):
    """A training loss of a denoiser. It encodes the batch itself, so that a codec that is trained with the denoiser
    gets its gradient.

    Every objective has a time schedule, and draws the random numbers of a step by `sample_draws`; students of its
    denoiser need no more of it.
    """

    time_schedule: TimeSchedule
    decode_noise_scale: float = 0.0  # noise of decoding rows, for objectives that have some
    head_loss_weight: float = 0.0  # weight of a commitment head's cross-entropy

    def build(self, codec: Codec) -> None:  # noqa: B027  most have no such weights
        """Take what depends on the codec's weights; a generator calls it when it is made, and when a trained codec is
        loaded."""

    def set_teacher(self, objective: "Objective", teacher: Denoiser) -> None:
        """Take a trained teacher and the objective that it was trained for, where an objective needs one."""
        raise ValueError(
            f"{type(self).__name__} learns from data, not from a teacher; use the objective StepDistillation"
        )

    def sample_draws(self, x: Latents) -> Draws:
        """Random numbers of one step for latents of x's shape: by default times and noise."""
        return Draws(self.time_schedule.sample(len(x), device=x.device), torch.randn_like(x))

    def row_counts(self, rows: int) -> RowCounts | None:
        """Numbers of rows of each kind in a batch of `rows`, where they are not left to chance."""
        return None

    @abstractmethod
    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses by name: "loss" is minimised; "tokens", if there, is the number of tokens that it is a mean over.

        Args:
            net: denoiser to train.
            codec: text <-> latents.
            path: how latents are noised.
            batch: token ids and masks.
            step: number of optimizer steps taken, for curricula.
        """
