"""The codec of Cosmos (2506.21170): a few latents for the features of a row, and a decoder that rebuilds both features
and tokens."""

from abc import ABC
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.codecs.hosted import BertCodec, HostedEncoder
from textflow.codecs.resampler import ResamplingCodec
from textflow.layers.batch_norm import MaskedBatchNorm
from textflow.layers.perceiver import PerceiverBlock
from textflow.types import AttentionMask, Ids, Latents, Logits, Mask

Features: TypeAlias = Float[Tensor, "B L width"]


class FeatureResampler(ResamplingCodec, ABC):
    """Queries z attend layer by layer to [h, z], h the features of a row: the encoder of Cosmos and of DiLaDiff.

    Features and latents are normalised by running statistics, which are saved with the weights.
    Learned positions are added to the features [ours].

    Args:
        vocab_size: number of tokens (from the tokenizer).
        features: makes the codec whose latents are the features.
        dim: width of the latents.
        latents: number of latents S of a row.
        length: number of tokens L of a row; equal to data.seq_length of the recipe.
        depth: number of layers.
        heads: number of attention heads; divides the width of the features.
    """

    def __init__(
        self,
        vocab_size: int,
        features: Callable[[int], Codec],
        dim: int,
        latents: int,
        length: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__(vocab_size, dim, latents, length)
        self.features = features(vocab_size)
        if isinstance(self.features, HostedEncoder):
            self.features.option = "--model.codec.features"
        width = self.features.dim
        self.feature_norm = MaskedBatchNorm(width)
        scale = 0.02 if isinstance(self.features, BertCodec) else 1.0  # other decoders begin at a row without positions
        self.positions = nn.Parameter(scale * torch.randn(length, width))
        self.queries = nn.Parameter(torch.randn(latents, width))
        self.encoder = nn.ModuleList(PerceiverBlock(width, heads) for _ in range(depth))
        self.to_latent = nn.Linear(width, dim, bias=False)

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        text = self.token_mask(ids, mask)
        return self.resample(self.encode_features(ids, text), text)

    def encode_features(self, ids: Ids, mask: Mask) -> Features:
        """Normalised features h of a row [B, L, width]."""
        return self.feature_norm(self.features.encode(ids, mask), mask)

    def resample(self, h: Features, mask: Mask) -> Latents:
        """Latents [B, S, d] of features [B, L, width]."""
        z, h = self.queries.expand(len(h), -1, -1), h + self.positions
        for block in self.encoder:
            z = block(z, h, mask)
        return self.normalised(self.to_latent(z))


class CosmosCodec(FeatureResampler):
    """Latents of a FeatureResampler, and a decoder: it begins at the features of a row whose tokens are all masked,
    attends to [z, h] in as many layers, and rebuilds features and tokens (Cosmos, sec. 3).

    The masked row is saved with the weights: a trained generator samples without the encoder. [ours]: the number of
    layers, and the encoder's positions, which are added to the masked row too.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        features: makes the codec whose latents are the features: BertCodec, another frozen one, or a TransformerCodec,
            which then learns to read masked tokens by itself in the same fit [ours].
        dim: width of the latents.
        latents: number of latents S of a row.
        length: number of tokens L of a row; equal to data.seq_length of the recipe.
        depth: number of layers of the encoder, and of the decoder.
        heads: number of attention heads; divides the width of the features.
    """

    masked_row: Tensor

    def __init__(
        self,
        vocab_size: int,
        features: Callable[[int], Codec] = BertCodec,
        dim: int = 768,
        latents: int = 16,
        length: int = 128,
        depth: int = 6,
        heads: int = 12,
    ) -> None:
        super().__init__(vocab_size, features, dim, latents, length, depth, heads)
        width, self.has_masked_row = self.features.dim, False
        self.register_buffer("masked_row", torch.zeros(length, width))
        self.from_latent = nn.Linear(dim, width)
        self.decoder = nn.ModuleList(PerceiverBlock(width, heads) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.lm_head = nn.Linear(width, vocab_size)

    def encode_features(self, ids: Ids, mask: Mask) -> Features:
        if self.training and not self.has_masked_row and isinstance(self.features, BertCodec):
            self.masked_row.copy_(self.features.masked_states(self.length)[0])
            self.has_masked_row = True
        return super().encode_features(ids, mask)

    def rebuild_features(self, z: Latents) -> Features:
        """Features of a row, from its latents [B, S, d]."""
        start = self.feature_norm.by_running(self.masked_row[None]) + self.positions
        h, z = start.expand(len(z), -1, -1), self.from_latent(z)
        for block in self.decoder:
            h = block(h, z)
        return self.out(h)

    def decode_logits(self, z: Latents) -> Logits:
        return self.lm_head(self.rebuild_features(z))
