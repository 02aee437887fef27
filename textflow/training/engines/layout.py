"""Layouts of the parameters' shards under ZeRO and FSDP."""

from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from textflow.training.engines.shards import Shard, ShardGroups, ShardOwner


def zero_shard_groups(zero_optimizer: Any) -> ShardGroups:
    """Shards of each parameter group of a DeepSpeed optimizer of any stage."""
    if hasattr(zero_optimizer, "fp32_partitioned_groups_flat"):
        groups: list[list[ShardOwner]] = [[] for _ in zero_optimizer.optimizer.param_groups]
        sub_groups = zip(zero_optimizer.fp32_partitioned_groups_flat, zero_optimizer.fp16_groups, strict=True)
        for i, (flat, params) in enumerate(sub_groups):
            groups[zero_optimizer.sub_group_to_group_id[i]].append(ShardOwner(flat, zero3_shards(params)))
        return groups
    flats, params = zero_optimizer.single_partition_of_fp32_groups, zero_optimizer.bit16_groups
    return [[ShardOwner(flat, zero12_shards(group, flat.numel()))] for flat, group in zip(flats, params, strict=True)]


def rank_ranges(numel: int, part_size: int, start: int = 0) -> tuple[tuple[int, int], ...]:
    """Range of a flat parameter on each rank, if a rank holds `part_size` values of a vector that has it at `start`."""
    edges = (min(max(rank * part_size - start, 0), numel) for rank in range(dist.get_world_size() + 1))
    return tuple(pairwise(edges))


def zero12_shards(params: list[Tensor], part_size: int) -> list[Shard]:
    """Stages 1 and 2: all full parameters are concatenated and cut into equal parts, one per rank."""
    shards, start = [], 0
    for p in params:
        offset = min(max(start - dist.get_rank() * part_size, 0), part_size)
        shards.append(Shard(p.shape, rank_ranges(p.numel(), part_size, start), offset))
        start += p.numel()
    return shards


def zero3_shards(params: list[Any]) -> list[Shard]:
    """Stage 3: each partitioned parameter is cut into equal parts, one per rank; a rank's parts are concatenated."""
    shards, offset = [], 0
    for p in params:
        part_size = p.partition_numel()
        shards.append(Shard(torch.Size(p.ds_shape), rank_ranges(p.ds_numel, part_size), offset))
        offset += part_size
    return shards


def fsdp_shard(p: Tensor) -> Shard:
    """FSDP: a DTensor is cut along its first axis, into parts of equal size except for the last ones."""
    rows = -(-p.shape[0] // dist.get_world_size())
    return Shard(p.shape, rank_ranges(p.numel(), rows * p.shape[1:].numel()), 0)
