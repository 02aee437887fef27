"""Seeds: every batch draws from its own stream, so a resumed run draws what an unbroken one would have drawn."""

import hashlib
from typing import Any

import lightning as L
import torch


class Seeds(L.Callback):
    """Reseeds torch before every batch, so that no stream depends on what ran before.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """By (seed, batches of all epochs so far, rank)."""
        torch.manual_seed(mixed(self.seed, trainer.fit_loop.epoch_loop.total_batch_idx, trainer.global_rank))

    def on_validation_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """By (seed, "validation", batch), the same at every validation: its losses differ by the weights alone."""
        torch.manual_seed(mixed(self.seed, "validation", batch_idx))


def mixed(*parts: int | str) -> int:
    """63 bits out of seed, purpose and index; neighbours give unrelated streams."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1
