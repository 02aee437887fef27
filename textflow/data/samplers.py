"""Row order as a function of (seed, epoch, position), so that a run resumes with exactly the next batch."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count, islice
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


def row_at(seed: int, num_rows: int) -> Callable[[int], int]:
    """position -> row: permutation(seed, epoch)[position mod rows]; caches the latest epoch's permutation."""
    permutation = lru_cache(1)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(num_rows))
    return lambda position: int(permutation(position // num_rows)[position % num_rows])


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
        row_of, start = row_at(self.seed, self.num_rows), self.consumed()
        positions = count(start + (self.rank - start) % self.world_size, self.world_size)  # position mod world = rank
        while True:
            yield [row_of(position) for position in islice(positions, self.batch_size)]

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
    """Number of rows in an optimizer step over all ranks, `batch_size` in a batch on each; 0 outside a fit."""
    return batch_size * trainer.world_size * trainer.accumulate_grad_batches if trainer else 0


def check_rows_per_step(saved_rows: int, current_rows: int, world_size: int) -> None:
    """Refuse to resume a run with another number of rows per optimizer step; 0 if a number is unknown."""
    if saved_rows and current_rows and saved_rows != current_rows:
        raise ValueError(
            f"this run takes {saved_rows} rows per step over all devices and would continue with {current_rows}, which "
            f"changes the training: give --data.batch_size times --trainer.accumulate_grad_batches = {saved_rows} / "
            f"{world_size} devices, or as many devices as before"
        )
