"""Muon over many ranks: each matrix is orthogonalised in full by one rank."""

from collections.abc import Iterable, Sequence

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from textflow.training.engines.gather import local_tensor
from textflow.training.engines.shards import Shard, ShardOwner
from textflow.training.optim import MuonAdam, orthogonalize_local


def assign_matrices(shapes: Sequence[torch.Size], world_size: int) -> list[list[int]]:
    """Indices of the matrices of each rank, balanced greedily: the costliest first, to the rank with the least work."""
    costs = [rows * cols * min(rows, cols) for rows, cols in shapes]
    work: list[int] = [0] * world_size
    assigned: list[list[int]] = [[] for _ in work]
    for i in sorted(range(len(shapes)), key=lambda i: -costs[i]):
        rank = work.index(min(work))
        assigned[rank].append(i)
        work[rank] += costs[i]
    return [sorted(indices) for indices in assigned]


class MuonAllToAll:
    """Gather each matrix on one rank, orthogonalise it there and scatter it again: two all-to-alls per step.

    Args:
        shard_owners: tensors that the optimizer updates on this rank.
    """

    def __init__(self, shard_owners: Iterable[ShardOwner]) -> None:
        self.shards = {id(owner.tensor): owner.shards for owner in shard_owners}

    def __call__(self, params: Sequence[Tensor], updates: Sequence[Tensor], ns_steps: int) -> list[Tensor]:
        rank, world_size = dist.get_rank(), dist.get_world_size()
        results = [torch.zeros_like(u) for u in updates]
        sources = [local_tensor(u.contiguous()).view(-1) for u in updates]
        targets = [local_tensor(result).view(-1) for result in results]
        shards = [(i, shard) for i, p in enumerate(params) for shard in self.shards[id(p)]]
        by_rank = assign_matrices([shard.shape for _, shard in shards], world_size)
        assigned = [[shards[j] for j in indices] for indices in by_rank]
        mine = [shard for _, shard in assigned[rank]]

        send = [[shard.local_view(sources[i]) for i, shard in pairs] for pairs in assigned]
        parts = all_to_all(send, [sum(shard.sizes[r] for shard in mine) for r in range(world_size)], sources[0])
        ortho = orthogonalize_local((), assemble_matrices(parts, mine), ns_steps)

        send = [[m.view(-1)[slice(*s.ranges[r])] for s, m in zip(mine, ortho, strict=True)] for r in range(world_size)]
        sizes = [[shard.sizes[rank] for _, shard in pairs] for pairs in assigned]
        parts = all_to_all(send, [sum(of_rank) for of_rank in sizes], sources[0])
        for pairs, part, of_rank in zip(assigned, parts, sizes, strict=True):
            for (i, shard), values in zip(pairs, torch.split(part, of_rank), strict=True):
                shard.local_view(targets[i]).copy_(values)
        return results


def all_to_all(send: Sequence[Sequence[Tensor]], receive: list[int], like: Tensor) -> list[Tensor]:
    """Exchange values between all ranks; return one flat tensor per sending rank.

    Args:
        send: flat tensors for each rank.
        receive: number of values from each rank.
        like: flat tensor with the dtype and device, since a rank may send nothing.
    """
    sent = torch.cat([like[:0], *(tensor.reshape(-1) for tensors in send for tensor in tensors)])
    received = sent.new_empty(sum(receive))
    dist.all_to_all_single(received, sent, receive, [sum(tensor.numel() for tensor in tensors) for tensors in send])
    return list(torch.split(received, receive))


def assemble_matrices(parts: Sequence[Tensor], shards: Sequence[Shard]) -> list[Tensor]:
    """Full matrices from one flat tensor per rank, which holds its ranges of all matrices."""
    ranges = [torch.split(part, [shard.sizes[r] for shard in shards]) for r, part in enumerate(parts)]
    return [torch.cat([of_rank[j] for of_rank in ranges]).view(shard.shape) for j, shard in enumerate(shards)]


def orthogonalize_replicated(params: Sequence[Tensor], updates: Sequence[Tensor], ns_steps: int) -> list[Tensor]:
    """Orthogonalise matrices that are equal on all ranks (DDP), each rank a part of them; one all-gather per step."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    assigned = assign_matrices([u.shape for u in updates], world_size)
    sizes = [[updates[i].numel() for i in indices] for indices in assigned]
    longest = max(sum(of_rank) for of_rank in sizes)
    local = updates[0].new_zeros(longest)
    if assigned[rank]:
        ortho = orthogonalize_local((), [updates[i] for i in assigned[rank]], ns_steps)
        local[: sum(sizes[rank])] = torch.cat([matrix.reshape(-1) for matrix in ortho])
    gathered = local.new_empty(longest * world_size)
    dist.all_gather_into_tensor(gathered, local)
    results = list(updates)
    for indices, part, of_rank in zip(assigned, torch.split(gathered, longest), sizes, strict=True):
        for i, values in zip(indices, torch.split(part[: sum(of_rank)], of_rank), strict=True):
            results[i] = values.view(updates[i].shape)
    return results


class DistributedMuonCallback(L.Callback):
    """Distribute Muon's orthogonalisation over the ranks of DDP; sharded engines do so themselves."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if type(trainer.strategy) is DDPStrategy and trainer.world_size > 1:
            for optimizer in trainer.optimizers:
                if isinstance(optimizer, MuonAdam):
                    optimizer.orthogonalize = orthogonalize_replicated
