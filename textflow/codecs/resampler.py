"""Perceiver resamplers: a few latents for a row of tokens."""

from abc import ABC

import torch
from torch import nn

from textflow.codecs.base import Codec
from textflow.types import AttentionMask, Ids, LatentMask, Latents, Logits, Mask


class ResamplingCodec(Codec, ABC):
    """S latents for rows of L tokens, both fixed. Each latent coordinate is normalised by running statistics, which are
    saved with the weights.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        dim: width of the latents.
        latents: number of latents S of a row.
        length: number of tokens L of a row; equal to data.seq_length of the recipe.
    """

    def __init__(self, vocab_size: int, dim: int, latents: int, length: int) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.latents, self.length = vocab_size, dim, latents, length
        self.norm = nn.BatchNorm1d(dim, affine=False, momentum=0.01)

    def num_latents(self, length: int) -> int:
        return self.latents

    def num_tokens(self, latents: int) -> int:
        return self.length

    def latent_mask(self, mask: Mask) -> LatentMask:
        return torch.ones(len(mask), self.latents, dtype=torch.bool, device=mask.device)

    def token_mask(self, ids: Ids, mask: Mask | AttentionMask | None) -> Mask:
        """True on text [B, L]; an error for rows of another length, or with a prompt that attends to itself alone."""
        name = type(self).__name__
        if ids.shape[1] != self.length:
            raise ValueError(
                f"the codec {name} encodes rows of {self.length} tokens, but got {ids.shape[1]}; set "
                "--model.codec.length to the recipe's data.seq_length"
            )
        if mask is not None and mask.ndim == 3:
            raise ValueError(
                f"the codec {name} mixes all tokens of a row, so it cannot encode a prompt alone; leave it out"
            )
        return torch.ones_like(ids, dtype=torch.bool) if mask is None else mask

    def normalised(self, x: Latents) -> Latents:
        """Latents of unit variance, in the precision of the statistics, also under autocast."""
        assert self.norm.running_mean is not None
        flat = x.flatten(0, 1).to(self.norm.running_mean.dtype)
        return self.norm(flat).view_as(x)  # [B S, d] -> [B, S, d]

    @property
    def is_trained(self) -> bool:
        return bool(self.norm.num_batches_tracked)


class Resampler(ResamplingCodec):
    """S latents attend to the L tokens of a row; L output positions attend to the latents (a Perceiver resampler).

    Each latent coordinate is normalised by running statistics, which are saved with the weights.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        dim: width of the latents.
        latents: number of latents S of a row.
        length: number of tokens L of a row; equal to data.seq_length of the recipe.
        width: width of the hidden states.
        heads: number of attention heads.
    """

    def __init__(
        self, vocab_size: int, dim: int = 64, latents: int = 16, length: int = 64, width: int = 128, heads: int = 4
    ) -> None:
        super().__init__(vocab_size, dim, latents, length)
        self.embed = nn.Embedding(vocab_size, width)
        self.positions = nn.Parameter(torch.randn(length, width) * width**-0.5)
        self.queries = nn.Parameter(torch.randn(latents, width))
        self.read = nn.MultiheadAttention(width, heads, batch_first=True)
        self.to_latent = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim, bias=False))
        self.from_latent = nn.Linear(dim, width)
        self.outputs = nn.Parameter(torch.randn(length, width))
        self.write = nn.MultiheadAttention(width, heads, batch_first=True)
        self.lm_head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, vocab_size)
        )

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        text = self.token_mask(ids, mask)
        padding = None if mask is None else ~text
        hidden = self.embed(ids) + self.positions
        queries = self.queries.expand(len(ids), -1, -1)
        x = self.to_latent(self.read(queries, hidden, hidden, key_padding_mask=padding, need_weights=False)[0])
        return self.normalised(x)

    def decode_logits(self, z: Latents) -> Logits:
        hidden = self.from_latent(z)
        outputs = self.outputs.expand(len(z), -1, -1)
        return self.lm_head(outputs + self.write(outputs, hidden, hidden, need_weights=False)[0])
