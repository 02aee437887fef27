import math

import pytest
import torch

from textflow.metrics import NgramOverlap

TRAIN = torch.tensor([[1, 2, 3, 4, 5, 6, 0, 0], [7, 7, 7, 7, 7, 7, 7, 7], [9, 1, 2, 3, 4, 0, 0, 0]])
SAMPLES = [[1, 2, 3, 4, 5], [4, 3, 2, 1], [7, 7, 7, 7, 7, 7, 8], [2, 3], []]


def by_hand(samples: list[list[int]], rows: list[list[int]], n: int) -> list[int]:
    ngrams = {tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)}
    return [sum(tuple(ids[i : i + n]) in ngrams for i in range(len(ids) - n + 1)) for ids in samples]


def test_the_hits_are_those_of_a_set_of_tuples() -> None:
    for vocab, n in ((10, 1), (50_257, 2), (10, 4), (50_257, 4), (2**20, 4)):
        memory = NgramOverlap(SAMPLES, vocab, n)
        memory.update(TRAIN[:1])
        memory.update(TRAIN[1:])
        assert memory.hits.tolist() == by_hand(SAMPLES, TRAIN.tolist(), n)


@pytest.mark.parametrize("vocab", [100, 2**20])
def test_random_rows_agree_too(vocab: int) -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(6, (40, 20), generator=draw) * (vocab // 8)
    samples = (torch.randint(6, (30, 12), generator=draw) * (vocab // 8)).tolist()
    memory = NgramOverlap(samples, vocab)
    memory.update(rows)
    expected = by_hand(samples, rows.tolist(), 4)
    assert memory.hits.tolist() == expected and 0 < sum(expected) < 30 * 9


def test_padding_of_the_training_rows_is_not_text() -> None:
    memory = NgramOverlap([[5, 6, 0, 0], [3, 4, 5, 6]], 10)
    memory.update(TRAIN, torch.tensor([6, 8, 5]))
    assert memory.hits.tolist() == [0, 1]
    memory.update(TRAIN)
    assert memory.hits.tolist() == [1, 1]


def test_the_share_is_over_ngrams_and_memory_is_bounded_by_the_samples() -> None:
    memory = NgramOverlap(SAMPLES, 10)
    memory.update(TRAIN)
    share = memory.compute()
    assert math.isclose(share.value, (2 + 3) / (2 + 1 + 4)) and share.low < share.value < share.high  # type: ignore
    memory = NgramOverlap(SAMPLES, 10)
    for _ in range(3):
        memory.update(torch.randint(10, (50, 40)))
    # 1234 2345 4321 7777 7778 and nothing of the training text
    assert len(memory.unique_ngrams) == len(memory.in_training) == 5
    memory = NgramOverlap([[1], []], 10)
    memory.update(TRAIN)
    assert memory.compute().value == 0 and NgramOverlap([], 10).compute().value == 0


def test_equal_hashes_need_equal_ngrams_far_above_63_bits() -> None:
    memory = NgramOverlap([[2**19, 0, 0, 1]], 2**20)
    memory.update(torch.tensor([[0, 2**19, 0, 1, 1, 0, 0, 2**19]]))
    assert memory.hits.tolist() == [0]
