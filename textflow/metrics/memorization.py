"""Memorisation: which n-grams of the samples stand in the training text."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.metrics.intervals import Interval, bootstrap, ratio

ODD = 0x5851F42D4C957F2D  # base of the hash where n tokens do not fit into 63 bits


class Remembered:
    """Share of the samples' n-grams that are somewhere in the training text (4-grams: LD4LG).

    Memory holds the samples' n-grams, never those of the training text, which is read past once. They are compared as
    whole numbers: exact where vocab^n < 2^63 (4-grams of 55,108 tokens), otherwise by a 64-bit hash.

    Args:
        samples: token ids, one sequence a sample.
        vocab: number of tokens.
        n: length of the n-grams.
    """

    def __init__(self, samples: Sequence[Sequence[int]], vocab: int, n: int = 4) -> None:
        self.n, self.base = n, vocab if vocab**n < 2**63 else ODD
        grams = [self.code(torch.as_tensor(ids, dtype=torch.long)) for ids in samples]
        self.sizes = torch.tensor([len(each) for each in grams])
        together = torch.cat([torch.zeros(0, dtype=torch.long), *grams])
        self.known, self.place = torch.unique(together, return_inverse=True)
        self.found = torch.zeros(len(self.known), dtype=torch.bool)

    def code(self, ids: Int[Tensor, "... L"]) -> Int[Tensor, "... M"]:
        """The n-grams of rows as whole numbers, M = L - n + 1; none where a row is shorter."""
        grams = ids.unfold(-1, self.n, 1) if ids.shape[-1] >= self.n else ids.new_zeros(*ids.shape[:-1], 0, self.n)
        codes = torch.zeros_like(grams[..., 0])
        for token in grams.unbind(-1):
            codes = codes * self.base + token  # wraps around where it is a hash
        return codes

    def read(self, ids: Int[Tensor, "B L"], lengths: Int[Tensor, " B"] | None = None) -> None:
        """Look through rows of the training text.

        Args:
            ids: tokens.
            lengths: tokens of each row that are text; default: all.
        """
        codes = self.code(ids.cpu())
        if lengths is not None:
            codes = codes[torch.arange(codes.shape[1])[None] < (lengths.cpu()[:, None] - self.n + 1)]
        codes = codes.flatten()
        if len(self.known) and len(codes):
            at = torch.searchsorted(self.known, codes).clamp_max(len(self.known) - 1)
            self.found[at[self.known[at] == codes]] = True

    @property
    def hits(self) -> Int[Tensor, " N"]:
        """n-grams of each sample that were met."""
        of = torch.repeat_interleave(torch.arange(len(self.sizes)), self.sizes)
        return torch.zeros(len(self.sizes), dtype=torch.long).scatter_add_(0, of, self.found[self.place].long())

    def share(self, level: float = 0.95) -> Interval:
        """Met n-grams / n-grams, over all samples.

        Args:
            level: confidence of the interval, in (0, 1).
        """
        if not len(self.sizes):
            return Interval(0.0)
        return bootstrap(ratio(self.hits, self.sizes), len(self.sizes), level)
