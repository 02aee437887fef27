"""Orthogonal embeddings, for which the accuracy of decoding is known in closed form."""

import math

import torch

from textflow.codecs import EmbeddingTable


def orthogonal_codec(vocab: int) -> EmbeddingTable:
    codec = EmbeddingTable(vocab, vocab)
    with torch.no_grad():
        codec.table.copy_(torch.eye(vocab))
    return codec


def decode_accuracy(t: torch.Tensor, vocab: int, noise_scale: float) -> torch.Tensor:
    """Accuracy of decoding z_t = t x + (1 - t) noise_scale eps: P(signal + n > all other n) (FLM, 2602.16813)."""
    n = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    density = torch.exp(-(n**2) / 2) / math.sqrt(2 * math.pi)
    signal = t * math.sqrt(vocab) / (noise_scale * (1 - t)).clamp_min(1e-9)  # in units of the noise
    below = torch.special.ndtr(n[None] + signal[:, None]) ** (vocab - 1)
    return torch.trapezoid(density * below, n, dim=-1)
