"""Codec: text <-> latents."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from textflow.codecs.prefix_mask import encoder_mask, zero_prompt
from textflow.types import AttentionMask, Batch, Ids, KeyValues, LatentMask, Latents, Logits, Mask


class Codec(nn.Module, ABC):
    """Token ids [B, L] <-> latents [B, S, d] of about unit variance; S = L unless `num_latents` differs."""

    vocab_size: int
    dim: int  # width of the latents
    has_decoder: bool = True  # whether `decode_logits` works
    trainable: bool = False  # whether it is trained together with the denoiser

    def num_latents(self, length: int) -> int:
        """Number of latents S of a row of `length` tokens."""
        return length

    def num_tokens(self, latents: int) -> int:
        """Number of tokens L that S latents decode to."""
        return latents

    def has_latent_per_token(self, length: int) -> bool:
        """True if a row of `length` tokens has as many latents, each of one token."""
        return self.num_latents(length) == length

    def latent_mask(self, mask: Mask) -> LatentMask:
        """True on latents that stand for text [B, S], from the mask of the tokens [B, L]."""
        return mask

    @abstractmethod
    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        """Latents of token ids; for a stochastic encoder, their mean.

        Args:
            ids: token ids [B, L].
            mask: True on text [B, L] (default: all), or where a query (row) attends to a key (column) [B, L, L].
        """

    def draw(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        """Latents as a denoiser is trained on them: a draw of a stochastic encoder; otherwise those of `encode`."""
        return self.encode(ids, mask)

    @abstractmethod
    def decode_logits(self, z: Latents) -> Logits:
        """Logits of the tokens [B, L, V] from clean or noisy latents [B, S, d]."""

    def decode_after(self, z: Latents, past: KeyValues | None, at: int | None = None) -> Logits:
        """Logits of the tokens of latents that follow those of `past`, for a decoder that is causal over blocks; by
        default latents are decoded without those before.

        Args:
            z: clean or noisy latents [B, S, d].
            past: keys and values of the latents before.
            at: index of the one latent whose tokens are wanted; default: those of all.
        """
        logits = self.decode_logits(z)
        return logits if at is None else logits.view(len(z), z.shape[1], -1, logits.shape[-1])[:, at]

    def extend_past(self, z: Latents, past: KeyValues | None = None) -> KeyValues | None:
        """Keys and values of a decoder that is causal over blocks, of latents and of those before; None for others."""
        return None

    def expected_latents(self, probs: Logits) -> Latents:
        """E[x] under probabilities of tokens, position by position; only for codecs with one embedding a token."""
        raise ValueError(
            f"the codec {type(self).__name__} has no embedding of a single token; use EmbeddingTable or OneHot"
        )

    @property
    def is_trained(self) -> bool:
        """True if a generator can be trained on it; a codec with trainable weights must be trained first."""
        return True


class LatentSpace(Codec):
    """The sizes of a codec without its weights, for networks that are built without one.

    Args:
        dim: width of the latents.
        vocab_size: number of tokens.
    """

    has_decoder = False

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.dim, self.vocab_size = dim, vocab_size

    def encode(self, ids: Ids, mask: Mask | AttentionMask | None = None) -> Latents:
        raise ValueError("LatentSpace only holds sizes; give the generator a codec")

    def decode_logits(self, z: Latents) -> Logits:
        raise ValueError("LatentSpace only holds sizes; give the generator a codec")


def latent_batch(codec: Codec, batch: Batch) -> Batch:
    """The batch with masks of the latents in place of those of the tokens, and without ids, where there is not one
    latent per token; otherwise the batch itself."""
    length = batch.ids.shape[1]
    if (count := codec.num_latents(length)) == length:
        return batch
    prompt = None if batch.prompt_mask is None else codec.latent_mask(batch.prompt_mask)
    return Batch(batch.ids.new_zeros(len(batch.ids), count), codec.latent_mask(batch.mask), prompt, batch.dropped)


def encode_batch(codec: Codec, batch: Batch, draw: bool = False) -> Latents:
    """Clean latents of a batch, or a draw of them; a prompt attends to itself alone, and is 0 in rows that drop it. A
    frozen codec has no gradient."""
    encode = codec.draw if draw else codec.encode
    with torch.set_grad_enabled(torch.is_grad_enabled() and codec.trainable):
        x = encode(batch.ids, encoder_mask(batch))
        if batch.prompt_mask is None or batch.dropped is None:
            return x
        return zero_prompt(x, codec.latent_mask(batch.prompt_mask), batch.dropped)
