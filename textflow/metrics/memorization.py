"""Memorisation: share of the samples' n-grams that occur in the training text."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.metrics.intervals import Interval, bootstrap, ratio

HASH_BASE = 0x5851F42D4C957F2D  # base of the hash where n tokens do not fit into 63 bits


class NgramOverlap:
    """Share of the samples' n-grams that occur in the training text (4-grams: LD4LG).

    Only the samples' n-grams are held in memory; the training text is streamed once. n-grams are compared as integer
    codes: exact where vocab^n < 2^63 (4-grams of 55,108 tokens), otherwise by a 64-bit hash.

    Args:
        samples: token ids, one sequence a sample.
        vocab_size: number of token ids.
        n: length of the n-grams.
    """

    def __init__(self, samples: Sequence[Sequence[int]], vocab_size: int, n: int = 4) -> None:
        self.n, self.base = n, vocab_size if vocab_size**n < 2**63 else HASH_BASE
        grams = [self.hash_ngrams(torch.as_tensor(ids, dtype=torch.long)) for ids in samples]
        self.num_ngrams = torch.tensor([len(each) for each in grams])
        together = torch.cat([torch.zeros(0, dtype=torch.long), *grams])
        self.unique_ngrams, self.ngram_index = torch.unique(together, return_inverse=True)
        self.in_training = torch.zeros(len(self.unique_ngrams), dtype=torch.bool)

    def hash_ngrams(self, ids: Int[Tensor, "... L"]) -> Int[Tensor, "... M"]:
        """Integer codes of the n-grams of rows, M = L - n + 1; none where a row is shorter."""
        grams = ids.unfold(-1, self.n, 1) if ids.shape[-1] >= self.n else ids.new_zeros(*ids.shape[:-1], 0, self.n)
        codes = torch.zeros_like(grams[..., 0])
        for token in grams.unbind(-1):
            codes = codes * self.base + token  # wraps around where it is a hash
        return codes

    def update(self, ids: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> None:
        """Mark the n-grams that occur in the first `lengths` tokens (default: all) of rows of the training text."""
        codes = self.hash_ngrams(ids.cpu())
        if lengths is not None:
            codes = codes[torch.arange(codes.shape[1])[None] < (lengths.cpu()[:, None] - self.n + 1)]
        codes = codes.flatten()
        if len(self.unique_ngrams) and len(codes):
            at = torch.searchsorted(self.unique_ngrams, codes).clamp_max(len(self.unique_ngrams) - 1)
            self.in_training[at[self.unique_ngrams[at] == codes]] = True

    @property
    def hits(self) -> Int[Tensor, " N"]:
        """Number of n-grams of each sample that occur in the training text."""
        sample_idx = torch.repeat_interleave(torch.arange(len(self.num_ngrams)), self.num_ngrams)
        in_training = self.in_training[self.ngram_index].long()
        return torch.zeros_like(self.num_ngrams).scatter_add_(0, sample_idx, in_training)

    def compute(self, level: float = 0.95) -> Interval:
        """Share of n-grams that occur in the training text, over all samples, with its confidence interval."""
        if not len(self.num_ngrams):
            return Interval(0.0)
        return bootstrap(ratio(self.hits, self.num_ngrams), len(self.num_ngrams), level)
