import pytest
import torch

from textflow.models.generation import generate_ids, generate_texts
from textflow.noise import sample_seeds


class Ids:
    def decode(self, ids: list[list[int]]) -> list[str]:
        return [str(row[0]) for row in ids]


def test_every_sample_is_asked_for_once_in_batches_that_fit() -> None:
    sizes: list[int] = []

    def make(seeds: list[int]) -> torch.Tensor:
        sizes.append(len(seeds))
        return torch.tensor(seeds)[:, None]

    texts = generate_texts(make, Ids(), num_samples=5, seed=7, batch_size=2, first_index=10)
    assert texts == [str(seed) for seed in sample_seeds(7, 10, 5)] and sizes == [2, 2, 1]
    assert generate_texts(make, Ids(), 0, 7, 2, 0) == []
    assert generate_ids(make, 5, 7, 3, 10) == [[int(text)] for text in texts]


def test_without_a_tokenizer_nothing_is_made() -> None:
    with pytest.raises(ValueError, match=r"textflow\.load"):
        generate_texts(lambda seeds: torch.zeros(1, 1).long(), None, 1, 0, 1, 0)
