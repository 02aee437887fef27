"""The text VAE of Cola-DLM: a latent a patch of tokens, by transformers that are causal over blocks (2605.06548)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.layers.block_causal import EPS, PostNormBlock, run_blocks
from textflow.types import AttentionMask, Ids, KeyValues, LatentMask, Latents, Logits, Mask

LOG_VAR_RANGE = -30.0, 20.0


class Gaussian(NamedTuple):
    """q(z0 | text), a normal distribution of each coordinate.

    Args:
        mean: mean [B, S, d].
        log_var: logarithm of the variance [B, S, d].
    """

    mean: Latents
    log_var: Latents

    def at(self, eps: Latents) -> Latents:
        """mean + std eps."""
        return self.mean + (self.log_var / 2).exp() * eps

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) of each latent, summed over its coordinates [B, S], nats."""
        return (self.mean**2 + self.log_var.exp() - 1 - self.log_var).sum(-1) / 2

    def kl_to(self, other: "Gaussian") -> Tensor:
        """KL(q || other) of each latent, summed over its coordinates [B, S], nats."""
        ratio, distance = self.log_var - other.log_var, (self.mean - other.mean) ** 2 / other.log_var.exp()
        return (distance + ratio.exp() - 1 - ratio).sum(-1) / 2

    def negative_entropy(self) -> Tensor:
        """E_q log q of each latent, summed over its coordinates [B, S], nats."""
        return -(self.log_var + 1 + math.log(2 * math.pi)).sum(-1) / 2

    def log_snr(self, valid: LatentMask) -> Tensor:
        """ln(E mu^2 / E sigma^2) over valid latents."""
        return self.mean[valid].square().mean().log() - self.log_var[valid].exp().mean().log()


class TextVAE(Codec):
    """Tokens <-> the mean of q(z0 | text), a latent a patch of tokens, which sees its block and those before; the mean
    is normalised over its coordinates (Cola-DLM, sec. 3).

    The encoder sees padding, and what is hidden from it, as the token `pad_id`: a prompt's last, partly filled block is
    encoded with padding behind it (released code).

    Args:
        vocab_size: number of tokens (from the tokenizer).
        dim: width of the latents.
        width: width of the hidden states.
        mlp_width: hidden width of SwiGLU.
        encoder_depth: number of encoder blocks.
        decoder_depth: number of decoder blocks.
        heads: number of attention heads.
        patch_size: tokens a latent; divides the number of tokens in a row.
        block_size: latents in a block.
        pad_id: token that stands for padding; default: the last one.
        trainable: whether it is trained further with the denoiser (ColaJoint); otherwise it is frozen there.
    """

    updates: Tensor

    def __init__(
        self,
        vocab_size: int,
        dim: int = 16,
        width: int = 1536,
        mlp_width: int = 3072,
        encoder_depth: int = 4,
        decoder_depth: int = 4,
        heads: int = 12,
        patch_size: int = 1,
        block_size: int = 16,
        pad_id: int | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        if width % heads or width // heads % 2 or min(patch_size, block_size) < 1:
            raise ValueError(
                f"TextVAE got width {width}, {heads} heads, patch_size {patch_size} and block_size {block_size}; a head"
                " needs an even whole number of channels, a patch and a block at least 1"
            )
        self.vocab_size, self.dim, self.patch_size, self.block_size = vocab_size, dim, patch_size, block_size
        self.pad_id, self.trainable = vocab_size - 1 if pad_id is None else pad_id, trainable
        sizes = width, mlp_width, heads, block_size
        self.encoder = Encoder(vocab_size + 1, dim, patch_size, encoder_depth, *sizes)  # the last row is the mask token
        self.decoder = Decoder(vocab_size, dim, patch_size, decoder_depth, *sizes)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.trunc_normal_(p, std=0.02, a=-0.06, b=0.06)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def num_latents(self, length: int) -> int:
        if length % self.patch_size:
            raise ValueError(f"a row of {length} tokens has no whole number of patches of {self.patch_size}")
        return length // self.patch_size

    def num_tokens(self, latents: int) -> int:
        return latents * self.patch_size

    def latent_mask(self, mask: Mask) -> LatentMask:
        return mask.view(len(mask), self.num_latents(mask.shape[1]), self.patch_size).any(-1)

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        return self.posterior(ids, mask).mean

    def draw(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        q = self.posterior(ids, mask)
        return q.at(torch.randn_like(q.mean))

    def posterior(
        self,
        ids: Ids,
        mask: Mask | AttentionMask | None = None,
        hidden: Mask | None = None,
        encoder: nn.Module | None = None,
    ) -> Gaussian:
        """q(z0 | text).

        Args:
            ids: token ids [B, L].
            mask: valid tokens [B, L], or which tokens each may attend to [B, L, L], prompt queries first; default: all.
            hidden: True where the mask token replaces a token [B, L].
            encoder: another encoder of the same sizes; default: the VAE's own.
        """
        if mask is not None and mask.ndim == 3:
            prompt, rest = (self.posterior(ids, mask[:, row], hidden, encoder) for row in (0, -1))
            own = self.latent_mask(mask[:, 0] & mask.diagonal(dim1=1, dim2=2))[..., None]
            return Gaussian(*(torch.where(own, a, b) for a, b in zip(prompt, rest, strict=True)))
        self.num_latents(ids.shape[1])
        ids = ids if mask is None else ids.masked_fill(~mask, self.pad_id)
        ids = ids if hidden is None else ids.masked_fill(hidden, self.vocab_size)
        if self.training:
            self.updates += 1
        mean, log_var = (encoder or self.encoder)(ids).float().chunk(2, -1)
        return Gaussian(F.layer_norm(mean, mean.shape[-1:], eps=EPS), log_var.clamp(*LOG_VAR_RANGE))

    def decode_logits(self, z: Latents) -> Logits:
        return self.decode_after(z, None)

    def decode_after(self, z: Latents, past: KeyValues | None, at: int | None = None) -> Logits:
        return self.decoder(z, past, at)

    def extend_past(self, z: Latents, past: KeyValues | None = None) -> KeyValues | None:
        return self.decoder.run_blocks(z, past)[1]

    @property
    def is_trained(self) -> bool:
        return bool(self.updates)


class Encoder(nn.Module):
    """Token ids [B, L] -> mean and log-variance before their bounds [B, S, 2 d]."""

    def __init__(
        self, rows: int, dim: int, patch: int, depth: int, width: int, mlp: int, heads: int, block: int
    ) -> None:
        super().__init__()
        self.sizes = width // heads, block
        self.wte, self.patch_embedder = nn.Embedding(rows, width), nn.Conv1d(width, width, patch, patch)
        self.blocks = nn.ModuleList(PostNormBlock(width, mlp, heads) for _ in range(depth))
        self.final_layer = nn.Linear(width, 2 * dim)

    def forward(self, ids: Ids) -> Tensor:
        x = self.patch_embedder(self.wte(ids).mT).mT  # [B, L, width] -> [B, S, width]
        return self.final_layer(run_blocks(self.blocks, x, *self.sizes)[0])


class Decoder(nn.Module):
    """Latents after those of `past` -> token logits [B, L, V], or those of one latent."""

    def __init__(
        self, vocab: int, dim: int, patch: int, depth: int, width: int, mlp: int, heads: int, block: int
    ) -> None:
        super().__init__()
        self.sizes, self.patch_size = (width // heads, block), patch
        self.in_layer = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(PostNormBlock(width, mlp, heads) for _ in range(depth))
        self.unpatch_layer = nn.Linear(width, patch * width)
        self.final_norm, self.final_layer = nn.LayerNorm(width, EPS), nn.Linear(width, vocab)

    def forward(self, z: Latents, past: KeyValues | None = None, at: int | None = None) -> Logits:
        x = self.run_blocks(z, past)[0]
        x = self.unpatch_layer(x if at is None else x[:, at, None])
        return self.final_layer(self.final_norm(x.unflatten(-1, (self.patch_size, -1)).flatten(1, 2)))  # [B, L, V]

    def run_blocks(self, z: Latents, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Hidden states [B, S, width], and the keys and values of all latents."""
        return run_blocks(self.blocks, self.in_layer(z), *self.sizes, past=past)
