"""Losses of a text VAE: tokens read from a draw of its latents, and tokens that its encoder does not see (Cola-DLM,
2605.06548)."""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.codecs.base import Codec
from textflow.codecs.prefix_mask import encoder_mask
from textflow.codecs.vae import Gaussian, TextVAE
from textflow.objectives.codec import CodecObjective
from textflow.paths.base import ProbPath
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


class VariationalReconstruction(CodecObjective):
    """-log p(text | z) + beta KL(q || N(0, I)) + lambda L_mask, z drawn from q(z | text); L_mask is the cross-entropy
    of tokens that the encoder does not see (Cola-DLM, 2605.06548, stage 1).

    Both cross-entropies are means over tokens, the divergence is one over latents, each in nats.

    Args:
        kl_weight: beta, >= 0.
        mask_weight: lambda, >= 0.
        mask_prob: probability that a token is hidden from the encoder in L_mask, in [0, 1).
    """

    trains: ClassVar[type] = TextVAE

    def __init__(self, kl_weight: float = 1e-3, mask_weight: float = 1.0, mask_prob: float = 0.3) -> None:
        super().__init__()
        refuse_vae_weights(mask_prob, kl_weight=kl_weight, mask_weight=mask_weight)
        self.kl_weight, self.mask_weight, self.mask_prob = kl_weight, mask_weight, mask_prob

    def forward(self, codec: Codec, path: ProbPath, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(codec, TextVAE), "build has checked it"
        read = reconstruct(codec, batch, self.mask_prob if self.mask_weight else 0.0)
        valid = codec.latent_mask(batch.mask)
        kl = read.q.kl()[valid].mean()
        loss = read.losses["nll"] + self.kl_weight * kl
        if "hidden_nll" in read.losses:
            loss = loss + self.mask_weight * read.losses["hidden_nll"]
        values = read.losses | {"kl": kl, "log_snr": read.q.log_snr(valid)}
        values = {name: value.detach() for name, value in values.items()}
        return {"loss": loss, "tokens": batch.mask.sum(), "accuracy": read.accuracy, **values}
