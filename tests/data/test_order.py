"""Laws of the order of rows."""

from itertools import chain, islice

import pytest

from textflow.data.samplers import InfiniteBatchSampler, SequentialBatchSampler


def batches(start: int, n: int, rows: int = 23, size: int = 4, seed: int = 7, rank: int = 0, world: int = 1):
    return list(islice(iter(InfiniteBatchSampler(rows, size, seed, lambda: start, rank, world)), n))


def test_an_epoch_holds_each_row_once_in_the_order_of_its_seed():
    flat = list(chain(*batches(0, 23)))
    epochs = [flat[i : i + 23] for i in range(0, 92, 23)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert epochs[0] != epochs[1] != list(range(23))
    assert batches(0, 5) != batches(0, 5, seed=8)


def test_resuming_anywhere_gives_the_very_next_batch():
    order = batches(0, 30)
    assert [done for done in range(24) if batches(done * 4, 6) != order[done : done + 6]] == []


def test_ranks_partition_the_rows_that_one_process_would_take():
    for start, world in ((0, 2), (1, 3), (8, 3), (45, 2)):
        ranks = [batches(start, 6, rank=rank, world=world) for rank in range(world)]
        for step in range(6):
            together = list(chain(*(rank[step] for rank in ranks)))
            alone = batches(start + step * 4 * world, 1, size=4 * world)[0]
            assert sorted(together) == sorted(alone)


def test_one_pass_gives_all_rows_in_order_and_an_endless_order_has_no_length():
    with pytest.raises(TypeError):
        len(InfiniteBatchSampler(5, 2, 0, lambda: 0))
    assert list(SequentialBatchSampler(7, 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(SequentialBatchSampler(7, 3)) == 3


def test_ranks_validate_every_row_in_equally_many_batches():
    for rows in (5, 6, 7, 8, 12, 13):
        ranks = [SequentialBatchSampler(rows, 3, rank, 2) for rank in range(2)]
        assert {len(list(rank)) for rank in ranks} == {len(ranks[0])}
        rows_read = [row for rank in ranks for batch in rank for row in batch]
        assert set(rows_read) == set(range(rows)) and len(rows_read) <= rows + 1
