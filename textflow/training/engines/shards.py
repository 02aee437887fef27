"""Which flat slice of which parameter each rank holds, and where; an optimizer's state whole, and in pieces again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from textflow.training.engines.gather import cpu_copy_on_rank0, local_tensor


class Shard(NamedTuple):
    """A parameter that all ranks hold together.

    Args:
        shape: of the whole parameter.
        ranges: [start, stop) of the flat parameter, one a rank; together they cover it.
        offset: where this rank's range begins in the tensor that holds it.
    """

    shape: torch.Size
    ranges: tuple[tuple[int, int], ...]
    offset: int

    @property
    def sizes(self) -> list[int]:
        """Numbers that each rank holds."""
        return [stop - start for start, stop in self.ranges]

    def local_view(self, flat: Tensor) -> Tensor:
        """This rank's range, a view into the flat tensor that holds it."""
        return flat.narrow(0, self.offset, self.sizes[dist.get_rank()])


class ShardOwner(NamedTuple):
    """What the optimizer steps on this rank, and the parameters, or pieces of them, that lie in it.

    Args:
        tensor: flat, or a DTensor.
        shards: in the order of the optimizer's parameters.
    """

    tensor: Tensor
    shards: list[Shard]


ShardGroups = Sequence[Sequence[ShardOwner]]  # for each parameter group of the optimizer


def all_gather_shard(flat: Tensor, shard: Shard) -> Tensor:
    """A whole parameter, or anything of its shape, on every rank.

    Args:
        flat: the flat tensor that holds this rank's range.
        shard: of the parameter.
    """
    longest, sizes = max(shard.sizes), shard.sizes
    mine = flat.new_zeros(longest)
    mine[: sizes[dist.get_rank()]] = shard.local_view(flat)
    everyone = flat.new_empty(longest * len(sizes))
    dist.all_gather_into_tensor(everyone, mine)
    parts = zip(torch.split(everyone, longest), sizes, strict=True)
    return torch.cat([part[:size] for part, size in parts]).view(shard.shape)


def optimizer_state(optimizer: Optimizer, groups: ShardGroups) -> dict[str, Any]:
    """state_dict() of the optimizer as one process would have it, on the CPU of the first rank. Called on all ranks.

    Args:
        optimizer: of pieces.
        groups: where they lie.
    """
    state: dict[int, dict[str, Any]] = {}
    made: list[dict[str, Any]] = []
    for group, holders in zip(optimizer.param_groups, groups, strict=True):
        first = len(state)
        for holder in holders:
            for piece in holder.shards:
                entries = optimizer.state[holder.tensor].items()
                state[len(state)] = {name: _full_value(value, holder, piece) for name, value in entries}
        made.append({**group, "params": list(range(first, len(state)))})
    return {"state": state, "param_groups": made}


def _full_value(value: Any, owner: ShardOwner, shard: Shard) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.shape != owner.tensor.shape:  # a count of steps
        return value.detach().clone().cpu()
    return cpu_copy_on_rank0(all_gather_shard(local_tensor(value).reshape(-1), shard))


@torch.no_grad()
def load_optimizer_state(optimizer: Optimizer, groups: ShardGroups, saved: dict[str, Any]) -> None:
    """The inverse: takes this rank's pieces out of a state that was saved by any number of ranks.

    Args:
        optimizer: of pieces.
        groups: where they lie.
        saved: as a state_dict().
    """
    counts = [sum(len(holder.shards) for holder in holders) for holders in groups]
    found = [len(group["params"]) for group in saved["param_groups"]]
    if counts != found:
        raise ValueError(
            f"the saved optimizer has groups of {found} parameters, this one has {counts}; continue with the optimizer"
            " of the run's recipe.yaml"
        )
    for group, holders, old in zip(optimizer.param_groups, groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in old.items() if key not in ("params", "param_names")})
        numbers = iter(old["params"])
        for holder in holders:
            entries = [saved["state"].get(next(numbers), {}) for _ in holder.shards]
            optimizer.state[holder.tensor] = {name: _local_shards(name, entries, holder) for name in entries[0]}


def _local_shards(name: str, entries: list[dict[str, Any]], owner: ShardOwner) -> Any:
    value = entries[0][name]
    if name == "step" or not isinstance(value, Tensor) or value.shape != owner.shards[0].shape:
        return value.clone() if isinstance(value, Tensor) else value
    made = torch.zeros_like(owner.tensor)
    flat, rank = local_tensor(made).view(-1), dist.get_rank()
    for entry, piece in zip(entries, owner.shards, strict=True):
        start, stop = piece.ranges[rank]
        piece.local_view(flat).copy_(entry[name].reshape(-1)[start:stop])
    return made
