"""A small transformer autoencoder."""

import torch
from torch import nn

from textflow.codecs.base import Codec
from textflow.layers.batch_norm import MaskedBatchNorm
from textflow.layers.functional import RMSNorm
from textflow.layers.rope import rope
from textflow.layers.transformer import LMHead, TransformerBlock
from textflow.types import AttentionMask, Ids, Latents, Logits, Mask


class TransformerCodec(Codec):
    """A bidirectional transformer encodes tokens in context; a position-wise network reads them out.

    Each latent coordinate is normalised by running statistics, which are saved with the weights.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        dim: width of the latents.
        width: width of the hidden states.
        depth: number of encoder blocks; 0 is an embedding table.
        heads: number of attention heads.
        token_mask_prob: fraction of tokens that are masked in training, in [0, 1): the decoder must infer them from
            their context, so latents carry context and a flow model learns them faster.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int = 64,
        width: int = 128,
        depth: int = 1,
        heads: int = 4,
        token_mask_prob: float = 0.3,
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim = vocab_size, dim
        self.head_width, self.token_mask_prob = width // heads, token_mask_prob
        self.embed = nn.Embedding(vocab_size + 1, width)  # the last row is the mask token
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.final_norm = RMSNorm(width, eps=1e-6)  # bounds the states that the running statistics follow
        self.to_latent = nn.Linear(width, dim, bias=False)
        self.norm = MaskedBatchNorm(dim)
        self.from_latent = nn.Sequential(nn.Linear(dim, width), nn.GELU(), RMSNorm(width, eps=1e-6))
        self.lm_head = LMHead(width, width, vocab_size)
        nn.init.normal_(self.embed.weight, std=1.0)

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        keys = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]  # the same for all heads
        mask = mask if mask.ndim == 2 else mask.diagonal(dim1=1, dim2=2)  # text attends to itself
        known = mask
        if self.training and self.token_mask_prob:
            known = mask & (torch.rand(ids.shape, device=ids.device) >= self.token_mask_prob)
            ids = ids.masked_fill(mask & ~known, self.vocab_size)
        x = self.embed(ids)
        freqs = rope(ids.shape[1], self.head_width, x)
        for block in self.blocks:
            x = block(x, freqs, keys)
        x = self.to_latent(self.final_norm(x)).to(self.embed.weight.dtype)
        x = self.norm(x, torch.where(known.any(), known, mask))  # over unmasked tokens: a trained codec masks none
        return torch.where(mask[..., None], x, 0.0)  # padding becomes 0

    def decode_logits(self, z: Latents) -> Logits:
        return self.lm_head(self.from_latent(z))

    @property
    def is_trained(self) -> bool:
        return bool(self.norm.num_batches_tracked)
