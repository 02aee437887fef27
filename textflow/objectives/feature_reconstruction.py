"""Feature reconstruction: a codec rebuilds tokens, and the features behind them, from few latents (Cosmos)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.codecs.base import Codec
from textflow.codecs.cosmos import CosmosCodec, FeatureResampler, Features
from textflow.codecs.prefix_mask import encoder_mask
from textflow.objectives.codec import CodecObjective
from textflow.paths.base import ProbPath
from textflow.types import Batch, Latents


@dataclass(frozen=True)
class LatentAugmentation:
    """Damage to features and latents in training, which makes the latents smooth (Cosmos; DiLaDiff, 2605.23605, whose
    ablation is the source of the numbers: better reconstruction gave worse generation).

    Each row's features are either noised or masked, at even odds; then the latents of half of the rows are replaced or
    masked. What is masked becomes 0, the mean [ours].

    Args:
        feature_noise: standard deviation s of sqrt(1 - s^2) h + s eps, in [0, 1].
        feature_mask: probability that a feature is masked, in [0, 1].
        latent_mask: probability that a latent is masked, in [0, 1].
        latent_replace: probability that a row's latents become Gaussian noise instead, in [0, 1].
    """

    feature_noise: float = 0.3
    feature_mask: float = 0.3
    latent_mask: float = 0.4
    latent_replace: float = 0.0

    def __post_init__(self) -> None:
        if wrong := {name: value for name, value in vars(self).items() if not 0 <= value <= 1}:
            raise ValueError(f"LatentAugmentation got {wrong}; each needs a number in [0, 1]")

    def damage_features(self, h: Features) -> Features:
        """Features, each row noised or masked."""
        s = self.feature_noise
        noised = (1 - s**2) ** 0.5 * h + s * torch.randn_like(h)
        masked = h * (torch.rand_like(h[..., :1]) >= self.feature_mask)
        return torch.where(torch.rand_like(h[:, :1, :1]) < 0.5, noised, masked)

    def damage_latents(self, z: Latents) -> Latents:
        """Latents, those of half of the rows replaced or masked."""
        masked = z * (torch.rand_like(z[..., :1]) >= self.latent_mask)
        row = torch.rand_like(z[:, :1, :1])
        damaged = torch.where(row < self.latent_replace, torch.randn_like(z), masked)
        return torch.where(torch.rand_like(z[:, :1, :1]) < 0.5, z, damaged)


class FeatureReconstruction(CodecObjective):
    """-log p(text | z) + lambda |h_hat - h|^2, h the features and z their damaged latents (Cosmos, 2506.21170).

    Both are means, over tokens in nats and over coordinates. Features that can be trained (TransformerCodec) get the
    cross-entropy of their own readout too, in which some tokens are hidden, and no other gradient [ours].

    Args:
        augmentation: damage to features and latents; default: that of Cosmos.
        feature_weight: lambda, >= 0.
    """

    trains: ClassVar[type] = CosmosCodec

    def __init__(self, augmentation: LatentAugmentation = LatentAugmentation(), feature_weight: float = 1.0) -> None:
        super().__init__()
        if feature_weight < 0:
            raise ValueError(f"feature_weight is {feature_weight}; needs a weight of at least 0")
        self.augmentation, self.feature_weight = augmentation, feature_weight

    def forward(self, codec: Codec, path: ProbPath, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(codec, FeatureResampler), "build has checked it"
        text = codec.token_mask(batch.ids, encoder_mask(batch))
        states = codec.encode_features(batch.ids, text)
        h, damage = states.detach(), self.augmentation
        z = damage.damage_latents(codec.resample(damage.damage_features(h), text))
        values = self.decoder_losses(codec, batch._replace(mask=text), h, z)
        if not states.requires_grad:
            return values
        own = F.cross_entropy(codec.features.decode_logits(states)[text].float(), batch.ids[text])
        return values | {"loss": values["loss"] + own, "feature_nll": own.detach()}

    def decoder_losses(self, codec: FeatureResampler, batch: Batch, h: Features, z: Latents) -> dict[str, Tensor]:
        """Losses of the decoder, from damaged latents; values as in `forward`.

        Args:
            codec: the codec.
            batch: token ids, and a mask that is True on text.
            h: features [B, L, width].
            z: damaged latents [B, S, d].
        """
        assert isinstance(codec, CosmosCodec), "build has checked it"
        text, rebuilt = batch.mask, codec.rebuild_features(z)
        logits = codec.lm_head(rebuilt[text]).float()  # [B, L, width] -> [n, V]
        nll, mse = F.cross_entropy(logits, batch.ids[text]), F.mse_loss(rebuilt[text], h[text])
        hits = logits.detach().argmax(-1) == batch.ids[text]
        values = {"accuracy": hits.float().mean(), "nll": nll.detach(), "feature_mse": mse.detach()}
        return {"loss": nll + self.feature_weight * mse, "tokens": text.sum(), **values}
