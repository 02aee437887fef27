"""Codec objectives: what codecs are trained for."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.codecs.prefix_mask import encoder_mask
from textflow.paths.base import ProbPath
from textflow.schedules import LogitNormal, TimeSchedule
from textflow.types import Batch


class CodecObjective(nn.Module, ABC):
    """A training loss of a codec, text <-> latents.

    Args:
        time_schedule: schedule whose grid gives the times of diagnostics; default: LogitNormal(0, 1).
    """

    trains: ClassVar[type] = Codec  # the codecs that it can train

    def __init__(self, time_schedule: TimeSchedule | None = None) -> None:
        super().__init__()
        self.time_schedule = time_schedule or LogitNormal(0.0, 1.0)

    def build(self, codec: Codec) -> None:
        """Check the codec, and freeze those of its weights that are not trained; called once, before the first step."""
        if not isinstance(codec, self.trains):
            raise ValueError(
                f"{type(self).__name__} trains a {self.trains.__name__}, not {type(codec).__name__}; use "
                "NoisyReconstruction"
            )

    def initialize(self, codec: Codec) -> None:  # noqa: B027  most codecs start from random weights
        """Load the weights that a codec starts from; not called for a resumed fit."""

    @abstractmethod
    def forward(self, codec: Codec, path: ProbPath, batch: Batch) -> dict[str, Tensor]:
        """Losses by name: "loss" is minimised, "tokens" is the number of tokens that it is a mean over, "accuracy" the
        share of them that are read right.

        Args:
            codec: the codec, or its moving average.
            path: how latents are noised.
            batch: token ids and masks.
        """


class NoisyReconstruction(CodecObjective):
    """Cross-entropy of the codec's readout on noisy latents, p x + (1 - p) scale eps, one p a position (ELF, sec. 3).

    Args:
        time_schedule: schedule of the fraction p of the clean latent, and of the times of diagnostics; default:
            LogitNormal(0, 1).
    """

    def forward(self, codec: Codec, path: ProbPath, batch: Batch) -> dict[str, Tensor]:
        x = codec.encode(batch.ids, encoder_mask(batch))
        p = self.time_schedule.sample(*x.shape[:2], device=x.device)[..., None]  # clean fraction of each latent
        noisy = p * x + (1 - p) * path.mix(torch.zeros_like(x), torch.randn_like(x), path.t_min)
        logits = codec.decode_logits(noisy)[batch.mask].float()  # [B, L, V] -> [n, V]
        hits = logits.detach().argmax(-1) == batch.ids[batch.mask]
        loss = F.cross_entropy(logits, batch.ids[batch.mask])
        return {"loss": loss, "tokens": batch.mask.sum(), "accuracy": hits.float().mean()}
