"""Autoencoder: trains a codec whose readout withstands noise, the path's or that of its own posterior."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textflow.codecs import Codec, TextVAE
from textflow.codecs.prefix_mask import encoder_mask
from textflow.models.base import LRSchedulerFn, OptimizerFn, Trainable
from textflow.objectives.text_vae import reconstruct, refuse_vae_weights
from textflow.paths import LinearPath, ProbPath
from textflow.schedules import LogitNormal, TimeSchedule
from textflow.training import MuonAdam, WarmupLR
from textflow.types import Batch


class Autoencoder(Trainable):
    """Cross-entropy of the codec's readout on noisy latents, p x + (1 - p) scale eps, one p a position (ELF, sec. 3).

    Args:
        vocab_size: number of tokens (from the tokenizer).
        codec: makes the codec, text <-> latents, from vocab_size.
        path: probability path that adds the noise; take the generator's. Default: LinearPath().
        time_schedule: schedule of the fraction p of the clean latent; default: LogitNormal(0, 1).
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        codec: Callable[[int], Codec],
        path: ProbPath | None = None,
        time_schedule: TimeSchedule | None = None,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=1e-2, adam_names="embed"),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=30),
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        self.set_net(codec(vocab_size))
        self.path, self.time_schedule = path or LinearPath(), time_schedule or LogitNormal(0.0, 1.0)

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        codec = cast(Codec, net)
        x = codec.encode(batch.ids, encoder_mask(batch))
        p = self.time_schedule.sample(*x.shape[:2], device=x.device)[..., None]  # clean fraction of each latent
        noisy = p * x + (1 - p) * self.path.mix(torch.zeros_like(x), torch.randn_like(x), self.path.t_min)
        logits = codec.decode_logits(noisy)[batch.mask].float()  # [B, L, V] -> [n, V]
        hits = logits.detach().argmax(-1) == batch.ids[batch.mask]
        loss = F.cross_entropy(logits, batch.ids[batch.mask])
        return {"loss": loss, "tokens": batch.mask.sum(), "accuracy": hits.float().mean()}


class VariationalAutoencoder(Autoencoder):
    """-log p(text | z) + beta KL(q || N(0, I)) + lambda L_mask, z drawn from q(z | text); L_mask is the cross-entropy
    of tokens that the encoder does not see (Cola-DLM, 2605.06548, stage 1).

    Both cross-entropies are means over tokens, the divergence is one over latents, each in nats.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        codec: makes the text VAE from vocab_size.
        kl_weight: beta, >= 0.
        mask_weight: lambda, >= 0.
        mask_prob: probability that a token is hidden from the encoder in L_mask, in [0, 1).
        path: probability path by which diagnostics noise the latents; take the generator's. Default:
            LinearPath(noise_scale=1.0).
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        codec: Callable[[int], Codec],
        kl_weight: float = 1e-3,
        mask_weight: float = 1.0,
        mask_prob: float = 0.3,
        path: ProbPath | None = None,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=1e-2, adam_names="embed"),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=30),
        ema_decay: float = 0.99,
    ) -> None:
        path = path or LinearPath(noise_scale=1.0)
        super().__init__(vocab_size, codec, path, None, optimizer, lr_scheduler, ema_decay)
        refuse_vae_weights(mask_prob, kl_weight=kl_weight, mask_weight=mask_weight)
        if not isinstance(self.net, TextVAE):
            raise ValueError(f"VariationalAutoencoder trains a TextVAE, not {type(self.net).__name__}; use Autoencoder")
        self.kl_weight, self.mask_weight, self.mask_prob = kl_weight, mask_weight, mask_prob

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        codec = cast(TextVAE, net)
        read, valid = (
            reconstruct(codec, batch, self.mask_prob if self.mask_weight else 0.0),
            codec.latent_mask(batch.mask),
        )
        kl = read.q.kl()[valid].mean()
        loss = read.losses["nll"] + self.kl_weight * kl
        if "hidden_nll" in read.losses:
            loss = loss + self.mask_weight * read.losses["hidden_nll"]
        values = read.losses | {"kl": kl, "log_snr": read.q.log_snr(valid)}
        values = {name: value.detach() for name, value in values.items()}
        return {"loss": loss, "tokens": batch.mask.sum(), "accuracy": read.accuracy, **values}
