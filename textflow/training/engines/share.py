"""What all ranks must have alike."""

import torch.distributed as dist
from torch import nn


def share_buffers(module: nn.Module) -> None:
    """Buffers (running statistics, say) as the first rank has them, as DDP does before every pass."""
    for buffer in module.buffers():
        dist.broadcast(buffer, 0)
