"""Autoencoder: trains a codec whose readout withstands noise."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import sight
from textflow.models.base import Trainable
from textflow.paths import Linear, Path
from textflow.schedules import Clock, LogitNormal
from textflow.training import MuonAdam, Warmup
from textflow.types import Batch


class Autoencoder(Trainable):
    """Cross-entropy of the codec's readout on noisy latents, p x + (1 - p) scale eps, p drawn a position (ELF, sec. 3).

    Args:
        vocab: number of tokens (from the tokenizer).
        codec: text <-> latents; made from vocab.
        path: how latents are noised; take the generator's.
        clock: of the share p of the clean latent; default: LogitNormal(0, 1).
        optimizer: from pairs (name, parameter).
        schedule: of the learning rate, by optimizer steps.
        ema: decay of the averaged weights, in [0, 1).
    """

    def __init__(
        self,
        vocab: int,
        codec: Callable[[int], Codec],
        path: Path = Linear(),
        clock: Clock | None = None,
        optimizer: Callable[[Any], Optimizer] = lambda params: MuonAdam(params, lr=1e-2, adam="embed"),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: Warmup(optimizer, steps=30),
        ema: float = 0.99,
    ) -> None:
        super().__init__(optimizer, schedule, ema)
        self.average(codec(vocab))
        self.path, self.clock = path, clock or LogitNormal(0.0, 1.0)

    def losses(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        x = net.encode(batch.ids, batch.mask if batch.fixed is None else sight(batch.mask, batch.fixed))
        share = self.clock.draw(*batch.ids.shape, device=x.device)[..., None]
        noisy = share * x + (1 - share) * self.path.mix(torch.zeros_like(x), torch.randn_like(x), 0.0)
        logits = net.readout(noisy)[batch.mask].float()  # [B, L, V] -> [n, V]
        hits = logits.detach().argmax(-1) == batch.ids[batch.mask]
        loss = F.cross_entropy(logits, batch.ids[batch.mask])
        return {"loss": loss, "tokens": batch.mask.sum(), "accuracy": hits.float().mean()}
