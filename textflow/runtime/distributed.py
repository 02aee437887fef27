"""Rank and world size of distributed training."""

import torch.distributed as dist


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    initialized = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if initialized else (0, 1)
