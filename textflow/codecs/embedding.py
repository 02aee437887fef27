"""Codecs with one latent per token: an embedding table, or one-hot tokens."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from textflow.codecs.base import Codec
from textflow.types import AttentionMask, Ids, Latents, Logits, Mask


class EmbeddingTable(Codec):
    """x = E[token], rows of E on the sphere of radius sqrt(dim); decoding takes the nearest embedding.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        dim: width of the latents.
        trainable: whether E is trained, by an Autoencoder or with the denoiser; otherwise it stays random.
        init: initial law of the table before its rows are normalised: standard normal, or `uniform` up to
            1 / sqrt(dim), where a step of the optimizer turns rows further (LangFlow).
    """

    steps: torch.Tensor

    def __init__(
        self,
        vocab_size: int,
        dim: int = 64,
        trainable: bool = False,
        init: Literal["normal", "uniform"] = "normal",
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.trainable = vocab_size, dim, trainable
        uniform = init == "uniform"
        table = (2 * torch.rand(vocab_size, dim) - 1) / dim**0.5 if uniform else torch.randn(vocab_size, dim)
        self.table = nn.Parameter(table, requires_grad=trainable)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def embeddings(self) -> torch.Tensor:
        """E, [V, dim], each row of length sqrt(dim)."""
        return F.normalize(self.table, dim=-1) * self.dim**0.5

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        if self.training:
            self.steps += 1
        return self.embeddings[ids]

    def decode_logits(self, z: Latents) -> Logits:
        return z @ self.embeddings.T  # all rows have one length, so the largest product is the nearest embedding

    def expected_latents(self, probs: Logits) -> Latents:
        return probs.to(self.table.dtype) @ self.embeddings

    @property
    def is_trained(self) -> bool:
        return not self.trainable or bool(self.steps)


class OneHot(Codec):
    """x = one-hot(token), as wide as the vocabulary (FLM, 2602.16813); decoding takes the largest coordinate.

    Args:
        vocab_size: number of tokens (from the tokenizer).
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = self.dim = vocab_size

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return F.one_hot(ids, self.vocab_size).float()

    def decode_logits(self, z: Latents) -> Logits:
        return z

    def expected_latents(self, probs: Logits) -> Latents:
        return probs


class ProjectedOneHot(Codec):
    """One-hot latents in k orthonormal directions, x = Q[token]: their noise stays white [ours]. Decoding takes the
    nearest token.

    Args:
        basis: orthonormal columns Q [V, k].
    """

    basis: torch.Tensor

    def __init__(self, basis: torch.Tensor) -> None:
        super().__init__()
        self.vocab_size, self.dim = basis.shape
        self.register_buffer("basis", basis)

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return self.basis[ids]

    def decode_logits(self, z: Latents) -> Logits:
        return z @ self.basis.T - self.basis.square().sum(1) / 2

    def expected_latents(self, probs: Logits) -> Latents:
        return probs.to(self.basis.dtype) @ self.basis
