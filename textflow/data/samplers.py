"""The order of rows: a function of (seed, epoch, position), so that a run goes on anywhere with the very next batch."""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


def row_at(seed: int, rows: int) -> Callable[[int], int]:
    """position -> row: permutation(seed, epoch)[position mod rows]; keeps the latest epoch's permutation."""
    kept: tuple[int, np.ndarray] = (-1, np.empty(0))

    def at(position: int) -> int:
        nonlocal kept
        epoch, spot = divmod(position, rows)
        if kept[0] != epoch:
            kept = epoch, np.random.default_rng([seed, epoch]).permutation(rows)
        return int(kept[1][spot])

    return at


def positions(start: int, rank: int, world: int) -> Iterator[int]:
    """The positions from `start` on that belong to a rank: those with position mod world = rank."""
    return count(start + (rank - start) % world, world)


# Both are DistributedSamplers by name only: Lightning leaves such a sampler as it is.
class Endless(DistributedSampler[list[int]]):
    """Batches of rows without end, starting at the position that `consumed` gives when iteration starts.

    Args:
        rows: number of rows.
        batch_size: rows a batch on this rank.
        seed: another seed is another order.
        consumed: gives the number of rows that all ranks together have used.
        rank, world: this process and the number of them.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, consumed: Callable[[], int], rank: int = 0, world: int = 1
    ) -> None:
        self.rows, self.batch_size, self.seed, self.consumed = rows, batch_size, seed, consumed
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[list[int]]:
        at, spots = row_at(self.seed, self.rows), positions(self.consumed(), self.rank, self.world)
        while True:
            yield [at(spot) for spot in islice(spots, self.batch_size)]

    def __len__(self) -> int:
        raise TypeError("an endless order has no length")

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the epoch follows from the position."""


class Once(DistributedSampler[list[int]]):
    """Batches of all rows once, in their order. Ranks get equally many batches: the first rows fill the last ones up.

    Args:
        rows: number of rows.
        batch_size: rows a batch on this rank.
        rank, world: this process and the number of them.
    """

    def __init__(self, rows: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.rows, self.batch_size, self.rank, self.world = rows, batch_size, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        mine = [spot % self.rows for spot in range(self.rank, self._padded(), self.world)]
        yield from (mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size))

    def __len__(self) -> int:
        return -(-self._padded() // (self.world * self.batch_size))

    def _padded(self) -> int:
        return -(-self.rows // self.world) * self.world

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the order is fixed."""


def rows_a_step(trainer: Any, batch_size: int) -> int:
    """Rows of an optimizer step over all ranks; 0 outside a fit.

    Args:
        trainer: or None.
        batch_size: rows a batch on each rank.
    """
    return batch_size * trainer.world_size * trainer.accumulate_grad_batches if trainer else 0


def refuse_another_batch(was: int, now: int, world: int) -> None:
    """A run does not go on with other batches, wherever it goes on.

    Args:
        was: rows of a step so far, 0 where not known.
        now: rows of a step from now on, 0 where not known.
        world: number of ranks.
    """
    if was and now and was != now:
        raise ValueError(
            f"this run takes {was} rows a step over all devices and would go on with {now}, which learns otherwise:"
            f" give --data.batch_size times --trainer.accumulate_grad_batches = {was} / {world} devices, or as many"
            " devices as before"
        )
