"""What all ranks must have alike."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from textflow.runtime.distributed import place


def share_buffers(module: nn.Module) -> None:
    """Buffers (running statistics, say) as the first rank has them, as DDP does before every pass."""
    for buffer in module.buffers():
        dist.broadcast(buffer, 0)


def over_all(loss: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
    """A rank's loss, weighed so that the mean over ranks, which engines make of gradients, is one over all tokens; and
    that mean, on every rank.

    Args:
        loss: a mean over this rank's tokens.
        tokens: how many these are; None: as many on every rank.
    """
    if place()[1] == 1:
        return loss, loss.detach()
    mine = loss.new_ones(()) if tokens is None else tokens.to(loss)
    total, count = both = torch.stack([loss.detach() * mine, mine])
    dist.all_reduce(both)
    return loss * (mine * dist.get_world_size() / count.clamp_min(1)), total / count.clamp_min(1)


def least(number: int, device: torch.device) -> int:
    """The least of all ranks' numbers.

    Args:
        number: this rank's.
        device: that the ranks exchange through.
    """
    if place()[1] == 1:
        return number
    held = torch.tensor(number, device=device)
    dist.all_reduce(held, dist.ReduceOp.MIN)
    return int(held)
