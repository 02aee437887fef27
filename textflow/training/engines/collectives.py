"""Collectives for buffers, losses, minima and errors over all ranks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from textflow.runtime.distributed import rank_and_world_size

if TYPE_CHECKING:
    import lightning as L


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
    local_count = loss.new_ones(()) if num_tokens is None else num_tokens.to(loss)
    total, count = sums = torch.stack([loss.detach() * local_count, local_count])
    dist.all_reduce(sums)
    return loss * (local_count * dist.get_world_size() / count.clamp_min(1)), total / count.clamp_min(1)


def all_reduce_min(number: int, device: torch.device) -> int:
    """The minimum of a number over all ranks, which communicate through tensors on `device`."""
    if rank_and_world_size()[1] == 1:
        return number
    minimum = torch.tensor(number, device=device)
    dist.all_reduce(minimum, dist.ReduceOp.MIN)
    return int(minimum)


def call_and_share_error(
    trainer: "L.Trainer", function: Callable[..., object], *args: Any, all_ranks: bool = False
) -> None:
    """Call a function on the first rank, or on all; an error of the first rank is raised on all ranks."""
    error: Exception | None = None
    try:
        if all_ranks or trainer.is_global_zero:
            function(*args)
    except Exception as raised:
        error = raised
    local = error and (getattr(error, "errno", None), getattr(error, "strerror", None) or str(error))
    failure: Any = trainer.strategy.broadcast(local)
    if error is not None:
        raise error
    if failure is not None:
        raise ValueError(failure[1]) if failure[0] is None else OSError(*failure)
