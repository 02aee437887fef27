"""EMA: exponential moving average of the network weights."""

from typing import Any

import lightning as L
import torch
from torch import nn

from textflow.training.engines.gather import local_tensor


class EMA(L.Callback):
    """ema_net = decay * ema_net + (1 - decay) * net after every optimizer step of a TrainingModule's model; buffers are
    copied."""

    def __init__(self) -> None:
        self.last_step = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.last_step = trainer.global_step  # above 0 for a resumed run

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the EMA if the batch completed an optimizer step; under gradient accumulation not every batch does."""
        if trainer.global_step != self.last_step:
            self.last_step = trainer.global_step
            model = module.model
            update_ema(model.net, model.ema_net, model.ema_decay)


@torch.no_grad()
def update_ema(net: nn.Module, ema_net: nn.Module, decay: float) -> None:
    """Update ema_net, a copy of net, to decay * ema_net + (1 - decay) * net, shard by shard; copy buffers."""
    params = [local_tensor(p) for p in net.parameters() if p.is_floating_point()]
    if params:
        averages = [local_tensor(p) for p in ema_net.parameters() if p.is_floating_point()]
        torch._foreach_lerp_(averages, params, 1 - decay)
    for source, target in zip(net.buffers(), ema_net.buffers(), strict=True):
        local_tensor(target).copy_(local_tensor(source))
