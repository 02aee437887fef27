"""Losses of a text VAE: tokens read from a draw of its latents, and tokens that its encoder does not see (Cola-DLM,
2605.06548)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.codecs.prefix_mask import encoder_mask
from textflow.codecs.vae import Gaussian, TextVAE
from textflow.types import AttentionMask, Batch, Latents, Mask


class Reconstruction(NamedTuple):
    """A draw of q(z | text) and how well its tokens are read from it.

    Args:
        q: distribution of the latents.
        z: draw of it [B, S, d].
        losses: "nll" and, where tokens were hidden, "hidden_nll", each a mean over tokens in nats.
        accuracy: share of tokens whose likeliest readout is right.
    """

    q: Gaussian
    z: Latents
    losses: dict[str, Tensor]
    accuracy: Tensor


def reconstruct(codec: TextVAE, batch: Batch, mask_prob: float) -> Reconstruction:
    """-log p(text | z), z drawn from q(z | text), and L_mask.

    Args:
        codec: text VAE.
        batch: token ids and masks.
        mask_prob: probability that a token is hidden in L_mask, in [0, 1); 0 leaves L_mask out.
    """
    mask, text = encoder_mask(batch), batch.mask
    q = codec.posterior(batch.ids, mask)
    z = q.at(torch.randn_like(q.mean))
    logits = codec.decode_logits(z)[text].float()  # [B, L, V] -> [n, V]
    hits = logits.detach().argmax(-1) == batch.ids[text]
    losses = {"nll": F.cross_entropy(logits, batch.ids[text])}
    if mask_prob:
        losses["hidden_nll"] = hidden_nll(codec, batch, mask, mask_prob)
    return Reconstruction(q, z, losses, hits.float().mean())


def hidden_nll(codec: TextVAE, batch: Batch, mask: Mask | AttentionMask, mask_prob: float) -> Tensor:
    """L_mask: -log p of tokens that the encoder does not see, from latents of the others; arguments as in
    `reconstruct`."""
    hidden = batch.mask & (torch.rand(batch.mask.shape, device=batch.mask.device) < mask_prob)
    q = codec.posterior(batch.ids, mask, hidden)
    logits = codec.decode_logits(q.at(torch.randn_like(q.mean)))[hidden].float()
    return F.cross_entropy(logits, batch.ids[hidden], reduction="sum") / hidden.sum().clamp_min(1)


def refuse_vae_weights(mask_prob: float, **weights: float) -> None:
    """Raise an error for weights below 0, or a probability that is none."""
    if not 0 <= mask_prob < 1 or min(weights.values()) < 0:
        found = ", ".join(f"{name} {value}" for name, value in weights.items())
        raise ValueError(f"mask_prob is {mask_prob}, {found}; needs a probability in [0, 1) and weights of at least 0")
