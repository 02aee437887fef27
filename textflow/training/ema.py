"""Average: the twin follows the net after every optimizer step."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from textflow.training.engines.gather import local


class Average(L.Callback):
    """twin = ema * twin + (1 - ema) * net after every optimizer step of a Trainable; buffers are copied."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Counts from the step that the run starts or continues at."""
        self.seen = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Moves the twin if the batch ended an optimizer step: with accumulated gradients not every batch does."""
        if trainer.global_step != self.seen:
            self.seen = trainer.global_step
            follow(module.net, module.twin, module.ema)


@torch.no_grad()
def follow(net: nn.Module, twin: nn.Module, decay: float) -> None:
    """Moves each parameter of twin a share of 1 - decay towards the net's, shard by shard, and copies buffers.

    Args:
        net: what is trained.
        twin: a deep copy of it.
        decay: in [0, 1]; 1 leaves the parameters where they are.
    """
    pairs = zip(_local(net.parameters()), _local(twin.parameters()), strict=True)
    moving = [(there, p) for there, p in pairs if p.is_floating_point()]
    if moving:
        torch._foreach_lerp_([p for _, p in moving], [there for there, _ in moving], 1 - decay)
    for there, p in zip(_local(net.buffers()), _local(twin.buffers()), strict=True):
        p.copy_(there)


def _local(tensors: Any) -> list[Tensor]:
    return [local(tensor) for tensor in tensors]
