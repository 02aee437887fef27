"""Unigram entropy of a sample in nats: low when a text repeats a few words, even at a low perplexity."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


def unigram_entropy(ids: Sequence[int]) -> float:
    """-sum p log p of one sample's token frequencies, nats, float64; 0 for an empty or constant sample.

    Args:
        ids: tokens of one sample, without padding.
    """
    counts = torch.unique(torch.as_tensor(ids, dtype=torch.long), return_counts=True)[1].double()
    return float(torch.special.entr(counts / max(len(ids), 1)).sum())


def mean_entropy(samples: Sequence[Sequence[int]]) -> float:
    """Mean unigram entropy of samples of token ids, nats; 0 for no samples."""
    return sum(map(unigram_entropy, samples)) / max(len(samples), 1)


class Entropy(Metric):
    """Mean unigram entropy (nats) added up over batches and processes."""

    full_state_update = False
    total: Tensor
    n: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, samples: Sequence[Sequence[int]]) -> None:
        """Add samples, each a sequence of token ids."""
        self.total += sum(map(unigram_entropy, samples))
        self.n += len(samples)

    def compute(self) -> Tensor:
        """Sum of entropies / number of samples."""
        return self.total / self.n.clamp_min(1)
