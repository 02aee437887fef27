"""The module that DeepSpeed partitions, and gathered EMA weights for evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from textflow.layers.frozen import Frozen
from textflow.training.engines.gather import gather_zero3


class DeepSpeedWrapper(nn.Module):
    """The net and its EMA; frozen modules such as the codec stay unpartitioned on every rank.

    Args:
        module: TrainingModule whose forward Lightning maps to the training or validation step.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.net, self.ema_net = module.model.net, module.model.ema_net
        self.module_ref = [module]  # not a child

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module_ref[0].forward(*args, **kwargs)


class EMASnapshot:
    """An unpartitioned copy of the EMA net, on the meta device until it is needed.

    Args:
        ema_net: EMA net before partitioning.
    """

    def __init__(self, ema_net: nn.Module) -> None:
        shared: dict[int, Any] = {id(m.module): m.module for m in ema_net.modules() if isinstance(m, Frozen)}
        self.snapshot = deepcopy(ema_net, shared).eval().to("meta")

    @contextmanager
    def swap_in(self, model: Any) -> Iterator[None]:
        """Context in which a Trainable's EMA net is gathered, without DeepSpeed hooks. Called on all ranks."""
        partitioned = model.ema_net
        model.ema_net = self.load_from(partitioned)
        try:
            yield
        finally:
            model.ema_net = partitioned
            self.snapshot.to("meta")

    @torch.no_grad()
    def load_from(self, partitioned: nn.Module) -> nn.Module:
        """Copy the partitioned EMA weights into the snapshot and return it."""
        self.snapshot.to_empty(device=next(partitioned.parameters()).device)
        target = named_tensors(self.snapshot)
        for name, source in named_tensors(partitioned).items():
            with gather_zero3(source):
                target[name].copy_(source)
        return self.snapshot


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; shared tensors appear under each name, since to_empty unshares memory."""
    parameters = dict[str, Tensor](module.named_parameters(remove_duplicate=False))
    return parameters | dict(module.named_buffers(remove_duplicate=False))
