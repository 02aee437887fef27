"""Muon over many ranks: every matrix is orthogonalised whole, each by one rank."""

from collections.abc import Iterable, Sequence
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from textflow.training.engines.gather import local_tensor
from textflow.training.engines.shards import Shard, ShardOwner
from textflow.training.optim import MuonAdam, orthogonalize_local


def assign_owners(shapes: Sequence[torch.Size], world_size: int) -> list[int]:
    """A rank for each matrix, so that all have about the same work: the costliest first, to who has least.

    Args:
        shapes: of the matrices; the cost of one is rows * cols * the smaller of both.
        world_size: number of ranks.
    """
    costs = [rows * cols * min(rows, cols) for rows, cols in shapes]
    work, owner = [0] * world_size, [0] * len(shapes)
    for i in sorted(range(len(shapes)), key=lambda i: (-costs[i], i)):
        owner[i] = min(range(world_size), key=lambda rank: (work[rank], rank))
        work[owner[i]] += costs[i]
    return owner


class MuonAllToAll:
    """Pieces -> whole matrices, each on its owner -> orthogonalised -> pieces. Two all-to-all a step.

    Args:
        shard_owners: all that the optimizer steps on this rank.
    """

    def __init__(self, shard_owners: Iterable[ShardOwner]) -> None:
        self.shards = {id(holder.tensor): holder.shards for holder in shard_owners}

    def __call__(self, params: Sequence[Tensor], updates: Sequence[Tensor], steps: int) -> list[Tensor]:
        rank, world = dist.get_rank(), dist.get_world_size()
        made = [torch.zeros_like(u) for u in updates]
        sent, got = ([local_tensor(u).view(-1) for u in us] for us in ([u.contiguous() for u in updates], made))
        known = [(i, piece) for i, p in enumerate(params) for piece in self.shards[id(p)]]
        owner = assign_owners([piece.shape for _, piece in known], world)
        owned = [[known[j] for j in range(len(known)) if owner[j] == r] for r in range(world)]  # by owner
        mine = [piece for _, piece in owned[rank]]
        parts = all_to_all(
            [[piece.local_view(sent[i]) for i, piece in owned[r]] for r in range(world)],
            shard_sizes(mine, world),
            sent[0],
        )
        ortho = orthogonalize_local((), assemble_matrices(parts, mine), steps)
        back = [[m.view(-1)[slice(*p.ranges[r])] for p, m in zip(mine, ortho, strict=True)] for r in range(world)]
        theirs = [sum(piece.sizes[rank] for _, piece in owned[r]) for r in range(world)]
        for r, part in enumerate(all_to_all(back, theirs, sent[0])):
            for (i, piece), numbers in zip(
                owned[r], torch.split(part, [p.sizes[rank] for _, p in owned[r]]), strict=True
            ):
                piece.local_view(got[i]).copy_(numbers)
        return made


def shard_sizes(shards: Sequence[Shard], world_size: int) -> list[int]:
    """Numbers of these that each rank holds."""
    return [sum(piece.sizes[r] for piece in shards) for r in range(world_size)]


def all_to_all(send: Sequence[Sequence[Tensor]], receive: list[int], like: Tensor) -> list[Tensor]:
    """What every rank sends to this one.

    Args:
        send: flat tensors for each rank.
        receive: numbers that come from each rank.
        like: flat, of their kind and on their device, where there is none.
    """
    given = torch.cat([like[:0], *(part.reshape(-1) for parts in send for part in parts)])
    taken = given.new_empty(sum(receive))
    dist.all_to_all_single(taken, given, receive, [sum(part.numel() for part in parts) for parts in send])
    return list(torch.split(taken, receive))


def assemble_matrices(parts: Sequence[Tensor], shards: Sequence[Shard]) -> list[Tensor]:
    """Whole matrices.

    Args:
        parts: from each rank, its ranges of these matrices, one after another.
        shards: of these matrices.
    """
    split = [torch.split(part, [piece.sizes[r] for piece in shards]) for r, part in enumerate(parts)]
    return [torch.cat([ranks[j] for ranks in split]).view(piece.shape) for j, piece in enumerate(shards)]


def orthogonalize_replicated(params: Sequence[Tensor], updates: Sequence[Tensor], steps: int) -> list[Tensor]:
    """Where every rank has all matrices (DDP), each orthogonalises its share; one all-gather a step.

    Args:
        params: whose updates these are.
        updates: matrices, the same on all ranks.
        steps: of Newton-Schulz.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    owner = assign_owners([u.shape for u in updates], world)
    owned = [[i for i in range(len(updates)) if owner[i] == r] for r in range(world)]
    counts = [sum(updates[i].numel() for i in spots) for spots in owned]
    mine = updates[0].new_zeros(max(counts))
    if owned[rank]:
        ortho = orthogonalize_local((), [updates[i] for i in owned[rank]], steps)
        mine[: counts[rank]] = torch.cat([matrix.reshape(-1) for matrix in ortho])
    everyone = mine.new_empty(max(counts) * world)
    dist.all_gather_into_tensor(everyone, mine)
    made = list(updates)
    for r, part in enumerate(torch.split(everyone, max(counts))):
        numbers = torch.split(part[: counts[r]], [updates[i].numel() for i in owned[r]])
        for i, flat in zip(owned[r], numbers, strict=True):
            made[i] = flat.view(updates[i].shape)
    return made


class DistributedMuonCallback(L.Callback):
    """Shares the orthogonalising among the ranks of DDP; sharded engines see to it themselves."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Once the optimizer is there."""
        if type(trainer.strategy) is DDPStrategy and trainer.world_size > 1:
            for optimizer in trainer.optimizers:
                if isinstance(optimizer, MuonAdam):
                    optimizer.orthogonalize = orthogonalize_replicated
