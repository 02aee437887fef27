"""Row order as a function of (seed, epoch, position), so that a run resumes with exactly the next batch."""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


def row_at(seed: int, num_rows: int) -> Callable[[int], int]:
    """position -> row: permutation(seed, epoch)[position mod rows]; caches the latest epoch's permutation."""
    cached: tuple[int, np.ndarray] = (-1, np.empty(0))

    def at(position: int) -> int:
        nonlocal cached
        epoch, i = divmod(position, num_rows)
        if cached[0] != epoch:
            cached = epoch, np.random.default_rng([seed, epoch]).permutation(num_rows)
        return int(cached[1][i])

    return at


def positions(start: int, rank: int, world_size: int) -> Iterator[int]:
    """Positions of a rank from `start` on: those with position mod world_size = rank."""
    return count(start + (rank - start) % world_size, world_size)


# Both subclass DistributedSampler only so that Lightning does not replace them.
class InfiniteBatchSampler(DistributedSampler[list[int]]):
    """Endless batches of shuffled rows, starting at the position that `consumed` gives when iteration starts.

    Args:
        num_rows: number of rows.
        batch_size: number of rows in a batch on this rank.
        seed: random seed of the row order.
        consumed: returns the number of rows that all ranks together have used.
        rank: index of this process.
        world_size: number of processes.
    """

    def __init__(
        self, num_rows: int, batch_size: int, seed: int, consumed: Callable[[], int], rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_rows, self.batch_size, self.seed, self.consumed = num_rows, batch_size, seed, consumed
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        row_of, own = row_at(self.seed, self.num_rows), positions(self.consumed(), self.rank, self.world_size)
        while True:
            yield [row_of(position) for position in islice(own, self.batch_size)]

    def __len__(self) -> int:
        raise TypeError("an endless order has no length")

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the epoch follows from the position."""


class SequentialBatchSampler(DistributedSampler[list[int]]):
    """One pass over all rows in file order. Ranks get equally many batches; the first rows pad the last batches.

    Args:
        num_rows: number of rows.
        batch_size: number of rows in a batch on this rank.
        rank: index of this process.
        world_size: number of processes.
    """

    def __init__(self, num_rows: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_rows, self.batch_size, self.rank, self.world_size = num_rows, batch_size, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        own = [position % self.num_rows for position in range(self.rank, self._padded_rows(), self.world_size)]
        yield from (own[i : i + self.batch_size] for i in range(0, len(own), self.batch_size))

    def __len__(self) -> int:
        return -(-self._padded_rows() // (self.world_size * self.batch_size))

    def _padded_rows(self) -> int:
        return -(-self.num_rows // self.world_size) * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order is fixed."""


def rows_per_step(trainer: Any, batch_size: int) -> int:
    """Number of rows in an optimizer step over all ranks; 0 outside a fit.

    Args:
        trainer: Lightning trainer, or None.
        batch_size: number of rows in a batch on each rank.
    """
    return batch_size * trainer.world_size * trainer.accumulate_grad_batches if trainer else 0


def check_rows_per_step(saved_rows: int, current_rows: int, world_size: int) -> None:
    """Refuse to resume a run with another number of rows per optimizer step.

    Args:
        saved_rows: rows per step before the resume, 0 if unknown.
        current_rows: rows per step after the resume, 0 if unknown.
        world_size: number of ranks.
    """
    if saved_rows and current_rows and saved_rows != current_rows:
        raise ValueError(
            f"this run takes {saved_rows} rows a step over all devices and would go on with {current_rows}, which "
            "changes the training:"
            f" give --data.batch_size times --trainer.accumulate_grad_batches = {saved_rows} / {world_size} devices, "
            "or as many devices as before"
        )
