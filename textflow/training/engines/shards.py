"""Flat shards of parameters on each rank; optimizer states are gathered from shards and cut into shards again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.engines.gather import cpu_copy_on_rank0, local_tensor


class Shard(NamedTuple):
    """A parameter that is split over all ranks."""

    shape: torch.Size  # of the full parameter
    ranges: tuple[tuple[int, int], ...]  # [start, stop) in the flat parameter for each rank; together they cover it
    offset: int  # index of this rank's range in the flat tensor that holds it

    @property
    def sizes(self) -> list[int]:
        """Number of values on each rank."""
        return [stop - start for start, stop in self.ranges]

    def local_view(self, flat: Tensor) -> Tensor:
        """This rank's range, as a view into the flat tensor that holds it."""
        return flat.narrow(0, self.offset, self.sizes[dist.get_rank()])


class ShardOwner(NamedTuple):
    """A tensor that the optimizer updates on this rank, and the shards in it."""

    tensor: Tensor  # flat, or a DTensor
    shards: list[Shard]  # in the order of the optimizer's parameters


ShardGroups = Sequence[Sequence[ShardOwner]]  # one sequence for each parameter group of the optimizer


def all_gather_shard(flat: Tensor, shard: Shard) -> Tensor:
    """Gather a parameter, or a tensor of its shape, from the flat tensor that holds this rank's range of it."""
    longest, sizes = max(shard.sizes), shard.sizes
    local = flat.new_zeros(longest)
    local[: sizes[dist.get_rank()]] = shard.local_view(flat)
    gathered = flat.new_empty(longest * len(sizes))
    dist.all_gather_into_tensor(gathered, local)
    parts = zip(torch.split(gathered, longest), sizes, strict=True)
    return torch.cat([part[:size] for part, size in parts]).view(shard.shape)


def optimizer_state(optimizer: Optimizer, groups: ShardGroups) -> dict[str, Any]:
    """state_dict() of an optimizer of shards as in one process, on the CPU of the first rank. Called on all ranks."""
    state: dict[int, dict[str, Any]] = {}
    param_groups: list[dict[str, Any]] = []
    for group, owners in zip(optimizer.param_groups, groups, strict=True):
        first = len(state)
        for owner in owners:
            entries = optimizer.state[owner.tensor].items()
            for shard in owner.shards:
                state[len(state)] = {name: _full_value(value, owner, shard) for name, value in entries}
        param_groups.append({**group, "params": list(range(first, len(state)))})
    return {"state": state, "param_groups": param_groups}


def _full_value(value: Any, owner: ShardOwner, shard: Shard) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.shape != owner.tensor.shape:  # a number of steps
        return value.detach().clone().cpu()
    return cpu_copy_on_rank0(all_gather_shard(local_tensor(value).reshape(-1), shard))


@torch.no_grad()
def load_optimizer_state(optimizer: Optimizer, groups: ShardGroups, saved: dict[str, Any]) -> None:
    """Load this rank's shards of an `optimizer_state`; ValueError if it has other parameter groups."""
    counts = [sum(len(owner.shards) for owner in owners) for owners in groups]
    saved_counts = [len(group["params"]) for group in saved["param_groups"]]
    if counts != saved_counts:
        raise ValueError(
            f"the saved optimizer has groups of {saved_counts} parameters, this one has {counts}; continue with the"
            " optimizer of the run's recipe.yaml"
        )
    for group, owners, saved_group in zip(optimizer.param_groups, groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in saved_group.items() if key not in ("params", "param_names")})
        indices = iter(saved_group["params"])
        for owner in owners:
            entries = [saved["state"].get(next(indices), {}) for _ in owner.shards]
            optimizer.state[owner.tensor] = {name: _local_value(name, entries, owner) for name in entries[0]}


def _local_value(name: str, entries: list[dict[str, Any]], owner: ShardOwner) -> Any:
    value = entries[0][name]
    if not isinstance(value, Tensor):
        return value
    if name == "step" or value.shape != owner.shards[0].shape:
        return value.clone()
    local = torch.zeros_like(owner.tensor)
    flat, rank = local_tensor(local).view(-1), dist.get_rank()
    for entry, shard in zip(entries, owner.shards, strict=True):
        shard.local_view(flat).copy_(entry[name].reshape(-1)[slice(*shard.ranges[rank])])
    return local
