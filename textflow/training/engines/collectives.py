"""Collectives for buffers, losses and minima over all ranks."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from textflow.runtime.distributed import rank_and_world_size


def broadcast_buffers(module: nn.Module) -> None:
    """Broadcast buffers, such as running statistics, from the first rank, as DDP does before every forward."""
    for buffer in module.buffers():
        dist.broadcast(buffer, 0)


def global_token_mean(loss: Tensor, num_tokens: Tensor | None) -> tuple[Tensor, Tensor]:
    """The local loss, rescaled so that averaging gradients over ranks averages over all tokens, and the global mean.

    Args:
        loss: mean loss over the tokens of this rank.
        num_tokens: number of tokens on this rank; None if equal on all ranks.
    """
    if rank_and_world_size()[1] == 1:
        return loss, loss.detach()
    mine = loss.new_ones(()) if num_tokens is None else num_tokens.to(loss)
    total, count = both = torch.stack([loss.detach() * mine, mine])
    dist.all_reduce(both)
    return loss * (mine * dist.get_world_size() / count.clamp_min(1)), total / count.clamp_min(1)


def all_reduce_min(number: int, device: torch.device) -> int:
    """The minimum of a number over all ranks.

    Args:
        number: value on this rank.
        device: device for the communication.
    """
    if rank_and_world_size()[1] == 1:
        return number
    held = torch.tensor(number, device=device)
    dist.all_reduce(held, dist.ReduceOp.MIN)
    return int(held)
