"""Autoencoder: trains a codec whose readout withstands noise."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import prefix_attention_mask
from textflow.models.base import LRSchedulerFn, OptimizerFn, Trainable
from textflow.paths import LinearPath, ProbPath
from textflow.schedules import LogitNormal, TimeSchedule
from textflow.training import MuonAdam, WarmupLR
from textflow.types import Batch


class Autoencoder(Trainable):
    """Cross-entropy of the codec's readout on noisy latents, p x + (1 - p) scale eps, one p a position (ELF, sec. 3).

    Args:
        vocab_size: number of tokens (from the tokenizer).
        codec: makes the codec, text <-> latents, from vocab_size.
        path: probability path that adds the noise; take the generator's.
        time_schedule: schedule of the fraction p of the clean latent; default: LogitNormal(0, 1).
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        codec: Callable[[int], Codec],
        path: ProbPath = LinearPath(),
        time_schedule: TimeSchedule | None = None,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=1e-2, adam_names="embed"),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=30),
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        self.set_net(codec(vocab_size))
        self.path, self.time_schedule = path, time_schedule or LogitNormal(0.0, 1.0)

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        codec = cast(Codec, net)
        mask = batch.mask if batch.prompt_mask is None else prefix_attention_mask(batch.mask, batch.prompt_mask)
        x = codec.encode(batch.ids, mask)
        p = self.time_schedule.sample(*x.shape[:2], device=x.device)[..., None]  # clean fraction of each latent
        noisy = p * x + (1 - p) * self.path.mix(torch.zeros_like(x), torch.randn_like(x), self.path.t_min)
        logits = codec.decode_logits(noisy)[batch.mask].float()  # [B, L, V] -> [n, V]
        hits = logits.detach().argmax(-1) == batch.ids[batch.mask]
        loss = F.cross_entropy(logits, batch.ids[batch.mask])
        return {"loss": loss, "tokens": batch.mask.sum(), "accuracy": hits.float().mean()}
