"""The processes that train together."""

import torch.distributed as dist


def place() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    there = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if there else (0, 1)
