"""One code a token."""

import torch
import torch.nn.functional as F
from torch import nn

from textflow.codecs.base import Codec
from textflow.types import Ids, Latents, Logits, Mask, Sight


class Table(Codec):
    """x = E[token], rows of E on the sphere of radius sqrt(dim); the readout takes the nearest code.

    Args:
        vocab: number of tokens (from the tokenizer).
        dim: width of the latents.
        learned: whether an Autoencoder trains E; otherwise it stays random.
    """

    steps: torch.Tensor

    def __init__(self, vocab: int, dim: int = 64, learned: bool = False) -> None:
        super().__init__()
        self.vocab, self.dim, self.learned = vocab, dim, learned
        self.table = nn.Parameter(torch.randn(vocab, dim), requires_grad=learned)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def codes(self) -> torch.Tensor:
        """[V, dim], each of length sqrt(dim)."""
        return F.normalize(self.table, dim=-1) * self.dim**0.5

    def encode(self, ids: Ids, mask: Mask | Sight | None = None) -> Latents:
        if self.training:
            self.steps += 1
        return self.codes[ids]

    def readout(self, z: Latents) -> Logits:
        return z @ self.codes.T  # all codes have one length, so the largest product is the nearest code

    @property
    def ready(self) -> bool:
        return not self.learned or bool(self.steps)
