"""FeatureAutoencoder: trains a codec that rebuilds tokens, and the features behind them, from few latents."""

from collections.abc import Callable
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from textflow.codecs import Codec, CosmosCodec, FeatureResampler, LatentAugmentation
from textflow.codecs.cosmos import Features
from textflow.codecs.prefix_mask import encoder_mask
from textflow.models.autoencoder import Autoencoder
from textflow.models.base import LRSchedulerFn, OptimizerFn
from textflow.paths import ProbPath, TangentPath
from textflow.training import MuonAdam, WarmupLR
from textflow.types import Batch, Latents


class FeatureAutoencoder(Autoencoder):
    """-log p(text | z) + lambda |h_hat - h|^2, h the features and z their damaged latents (Cosmos, 2506.21170).

    Both are means, over tokens in nats and over coordinates. Features that can be trained (TransformerCodec) get the
    cross-entropy of their own readout too, in which some tokens are hidden, and no other gradient [ours].

    Args:
        vocab_size: number of tokens (from the tokenizer).
        codec: makes the codec from vocab_size, a CosmosCodec.
        augmentation: damage to features and latents; default: that of Cosmos.
        feature_weight: lambda, >= 0.
        path: probability path by which diagnostics noise the latents; take the generator's. Default: TangentPath().
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    trains: ClassVar[type[FeatureResampler]] = CosmosCodec

    def __init__(
        self,
        vocab_size: int,
        codec: Callable[[int], Codec],
        augmentation: LatentAugmentation = LatentAugmentation(),
        feature_weight: float = 1.0,
        path: ProbPath | None = None,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=1e-2, adam_names="embed"),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=30),
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__(vocab_size, codec, path or TangentPath(), None, optimizer, lr_scheduler, ema_decay)
        if not isinstance(self.net, self.trains):
            name = type(self).__name__
            raise ValueError(f"{name} trains a {self.trains.__name__}, not {type(self.net).__name__}; use Autoencoder")
        if feature_weight < 0:
            raise ValueError(f"feature_weight is {feature_weight}; needs a weight of at least 0")
        self.augmentation, self.feature_weight = augmentation, feature_weight

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        codec, damage = cast(FeatureResampler, net), self.augmentation
        text = codec.token_mask(batch.ids, encoder_mask(batch))
        states = codec.encode_features(batch.ids, text)
        h = states.detach()
        z = damage.damage_latents(codec.resample(damage.damage_features(h), text))
        values = self.decoder_losses(codec, batch._replace(mask=text), h, z)
        if not states.requires_grad:
            return values
        own = F.cross_entropy(codec.features.decode_logits(states)[text].float(), batch.ids[text])
        return values | {"loss": values["loss"] + own, "feature_nll": own.detach()}

    def decoder_losses(self, codec: FeatureResampler, batch: Batch, h: Features, z: Latents) -> dict[str, Tensor]:
        """Losses of the decoder, from damaged latents; values as in `losses`.

        Args:
            codec: the codec.
            batch: token ids, and a mask that is True on text.
            h: features [B, L, width].
            z: damaged latents [B, S, d].
        """
        assert isinstance(codec, CosmosCodec), "__init__ has checked it"
        text, rebuilt = batch.mask, codec.rebuild_features(z)
        logits = codec.lm_head(rebuilt[text]).float()  # [B, L, width] -> [n, V]
        nll, mse = F.cross_entropy(logits, batch.ids[text]), F.mse_loss(rebuilt[text], h[text])
        hits = logits.detach().argmax(-1) == batch.ids[text]
        values = {"accuracy": hits.float().mean(), "nll": nll.detach(), "feature_mse": mse.detach()}
        return {"loss": nll + self.feature_weight * mse, "tokens": text.sum(), **values}
