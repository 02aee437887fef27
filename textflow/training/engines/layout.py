"""Where each engine puts the pieces of the parameters."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from textflow.training.engines.shards import Shard, ShardGroups, ShardOwner


def zero_shard_groups(zero_optimizer: Any) -> ShardGroups:
    """Where DeepSpeed has put the parameters of each group.

    Args:
        zero_optimizer: its optimizer, of stage 1 and 2 or of stage 3.
    """
    if hasattr(zero_optimizer, "fp32_partitioned_groups_flat"):
        made: list[list[ShardOwner]] = [[] for _ in zero_optimizer.optimizer.param_groups]
        for i, (flat, params) in enumerate(
            zip(zero_optimizer.fp32_partitioned_groups_flat, zero_optimizer.fp16_groups, strict=True)
        ):
            made[zero_optimizer.sub_group_to_group_id[i]].append(ShardOwner(flat, zero3_shards(params)))
        return made
    flats, groups = zero_optimizer.single_partition_of_fp32_groups, zero_optimizer.bit16_groups
    return [[ShardOwner(flat, zero12_shards(params, flat.numel()))] for flat, params in zip(flats, groups, strict=True)]


def zero12_shards(params: list[Tensor], size: int) -> list[Shard]:
    """Stages 1 and 2: all parameters one after another, cut into as many equal parts as there are ranks.

    Args:
        params: whole.
        size: of a part.
    """
    made, start, rank = [], 0, dist.get_rank()
    for p in params:
        n = p.numel()
        cut = [(r * size - start, (r + 1) * size - start) for r in range(dist.get_world_size())]
        ranges = tuple((min(max(a, 0), n), min(max(b, 0), n)) for a, b in cut)
        made.append(Shard(p.shape, ranges, min(max(start - rank * size, 0), size)))
        start += n
    return made


def zero3_shards(params: list[Any]) -> list[Shard]:
    """Stage 3: each parameter cut into as many equal parts as there are ranks, a rank's parts one after another.

    Args:
        params: partitioned.
    """
    made, offset, world = [], 0, dist.get_world_size()
    for p in params:
        n, part = p.ds_numel, p.partition_numel()
        ranges = tuple((min(r * part, n), min((r + 1) * part, n)) for r in range(world))
        made.append(Shard(torch.Size(p.ds_shape), ranges, offset))
        offset += part
    return made


def fsdp_shard(p: Tensor) -> Shard:
    """FSDP: a parameter cut along its first axis, in parts of equal size but for the last ones.

    Args:
        p: a DTensor.
    """
    world, rows = dist.get_world_size(), p.shape[0]
    part, row = -(-rows // world), p.shape[1:].numel()
    ranges = tuple((min(r * part, rows) * row, min((r + 1) * part, rows) * row) for r in range(world))
    return Shard(p.shape, ranges, 0)
