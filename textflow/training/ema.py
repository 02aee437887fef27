"""EMA: exponential moving average of the network weights."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from textflow.training.engines.gather import local_tensor


class EMA(L.Callback):
    """ema_net = decay * ema_net + (1 - decay) * net after every optimizer step of a Trainable; buffers are copied."""

    def __init__(self) -> None:
        self.last_step = 0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Start counting at the current step, which is above 0 for a resumed run."""
        self.last_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the EMA if the batch completed an optimizer step; under gradient accumulation not every batch does."""
        if trainer.global_step != self.last_step:
            self.last_step = trainer.global_step
            update_ema(module.net, module.ema_net, module.ema_decay)


@torch.no_grad()
def update_ema(net: nn.Module, ema_net: nn.Module, decay: float) -> None:
    """Update ema_net to decay * ema_net + (1 - decay) * net, shard by shard, and copy buffers.

    Args:
        net: network being trained.
        ema_net: deep copy of the network that holds the average.
        decay: EMA decay in [0, 1]; 1 leaves the parameters unchanged.
    """
    pairs = zip(_local_tensors(net.parameters()), _local_tensors(ema_net.parameters()), strict=True)
    moving = [(there, p) for there, p in pairs if p.is_floating_point()]
    if moving:
        torch._foreach_lerp_([p for _, p in moving], [there for there, _ in moving], 1 - decay)
    for there, p in zip(_local_tensors(net.buffers()), _local_tensors(ema_net.buffers()), strict=True):
        p.copy_(there)


def _local_tensors(tensors: Any) -> list[Tensor]:
    return [local_tensor(tensor) for tensor in tensors]
