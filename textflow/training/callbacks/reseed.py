"""ReseedEachBatch: seed each batch separately, so that a resumed run draws the same numbers as an uninterrupted one."""

import hashlib
from typing import Any

import lightning as L
import torch


class ReseedEachBatch(L.Callback):
    """Reseed torch before every batch, independent of earlier draws.

    Args:
        seed: random seed of the run.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed by (seed, number of batches so far, rank)."""
        torch.manual_seed(mix_seed(self.seed, trainer.fit_loop.epoch_loop.total_batch_idx, trainer.global_rank))

    def on_validation_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed by (seed, "validation", batch), equal at every validation, so losses differ only by the weights."""
        torch.manual_seed(mix_seed(self.seed, "validation", batch_idx))


def mix_seed(*parts: int | str) -> int:
    """63-bit hash of seed, purpose and index; adjacent indices give independent streams."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1
