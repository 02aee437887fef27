"""The prior of Cola-DLM: flow matching of each block of latents, given the clean blocks before it, by itself or with
the text VAE (2605.06548)."""

from copy import deepcopy

import torch
from torch import nn

from textflow.codecs.base import Codec, encode_batch
from textflow.codecs.prefix_mask import encoder_mask, zero_prompt
from textflow.codecs.vae import TextVAE
from textflow.nets.base import Denoiser
from textflow.nets.cola import ColaDiT
from textflow.objectives.base import Draws, Objective
from textflow.objectives.text_vae import reconstruct, refuse_vae_weights
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.logit_normal import LogitNormal
from textflow.types import Batch, Latents, PositionMask, Times


class ColaObjective(Objective):
    """Squared error of the velocity x - eps, a mean over noisy latents (Cola-DLM, sec. 3.3 and its training scripts).

    A row has one time; in some blocks the first latents are clean, t = 1, and without loss, as a prompt that ends
    inside a block. Latents are drawn from the codec's distribution.

    Args:
        time_schedule: law of a row's time; default: logit-normal of mean -1, for latents of width 16 (loc 1 from text).
        prompt_prob: probability that a block begins with a simulated prompt, of 1 ... size - 1 latents.
        loss_on_padding: whether padding counts in the loss.
    """

    def __init__(
        self, time_schedule: TimeSchedule | None = None, prompt_prob: float = 0.05, loss_on_padding: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= prompt_prob <= 1:
            raise ValueError(f"prompt_prob is {prompt_prob}; needs a probability in [0, 1]")
        self.time_schedule = time_schedule or LogitNormal(-1.0, 1.0)
        self.prompt_prob, self.loss_on_padding = prompt_prob, loss_on_padding

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        return self.losses_of(net, codec, path, batch, encode_batch(codec, batch, draw=True))

    def losses_of(
        self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, x: Latents
    ) -> dict[str, torch.Tensor]:
        """The losses of a batch whose latents are drawn; arguments as in `forward`.

        Args:
            x: draw of the latents [B, S, d].
        """
        if not isinstance(net, ColaDiT):
            raise ValueError(
                f"{type(self).__name__} trains a net that is causal over blocks (ColaDiT), not {type(net).__name__}"
            )
        draws, clean = self.sample_draws(x), self.sample_prompts(x, net.block_size)
        valid = codec.latent_mask(batch.loss_mask(self.loss_on_padding))
        if batch.prompt_mask is not None:
            clean = clean | codec.latent_mask(batch.prompt_mask)
        return self.loss(net, path, x, valid, draws._replace(t=clean_times(draws.t, clean, path.t_max)))

    def sample_prompts(self, x: Latents, block_size: int) -> PositionMask:
        """True on the simulated prompts of blocks [B, S]."""
        rows, count = x.shape[:2]
        starts = torch.arange(0, count, block_size, device=x.device)
        sizes = (count - starts).clamp_max(block_size)
        has_prompt = torch.rand(rows, len(starts), device=x.device) < self.prompt_prob
        known = 1 + (torch.rand(rows, len(starts), device=x.device) * (sizes - 1)).long()
        known = torch.where(has_prompt & (sizes > 1), known, 0)  # [B, blocks]
        place = torch.arange(count, device=x.device)
        return place % block_size < known.repeat_interleave(block_size, 1)[:, :count]

    def loss(
        self, net: ColaDiT, path: ProbPath, x: Latents, valid: PositionMask, draws: Draws
    ) -> dict[str, torch.Tensor]:
        """The losses for given latents, noise and times [B, S]; a latent at the clean end has no loss, and clean blocks
        before have no gradient.

        Args:
            net: denoiser to train.
            path: straight path of unit noise.
            x: clean latents [B, S, d].
            valid: True on latents in the loss [B, S].
            draws: noise, and a time a latent.
        """
        t = draws.t
        v = net.velocity_after(x.detach(), path.mix(x, draws.eps, t), t)
        mask = valid & (t < path.t_max)
        total = mask.sum()
        slope = path.mix(x, draws.eps, path.t_max) - path.mix(x, draws.eps, path.t_min)  # dz/dt of the straight path
        squared = ((v - slope / (path.t_max - path.t_min)) ** 2).mean(-1) * mask
        return {"loss": squared.sum() / total.clamp_min(1), "tokens": total}


class ColaJoint(ColaObjective):
    """lambda_vae (-log p(text | z) + beta E log q(z | text) + lambda_mask L_mask) + lambda_fm L_FM + lambda_ref
    KL(q || q_ref), z drawn from q: the text VAE is trained with the prior, q_ref is its encoder before (Cola-DLM,
    stage 2).

    The first two and L_mask are those of VariationalReconstruction, L_FM is that of ColaObjective; its gradient reaches
    the encoder through the noisy latents and the velocity, not through the clean blocks before. A recipe's key `codec`
    gives the trained VAE of stage 1. The weights are [ours], for the paper gives none.

    Args:
        time_schedule: law of a row's time; default: logit-normal of mean -1.
        prompt_prob: probability that a block begins with a simulated prompt, of 1 ... size - 1 latents.
        loss_on_padding: whether padding counts in L_FM.
        vae_weight: lambda_vae, >= 0.
        flow_weight: lambda_fm, >= 0.
        reference_weight: lambda_ref, >= 0.
        entropy_weight: beta, >= 0.
        mask_weight: lambda_mask, >= 0.
        mask_prob: probability that a token is hidden from the encoder in L_mask, in [0, 1).
    """

    reference: nn.Module  # encoder of q_ref, which is saved with the run

    def __init__(
        self,
        time_schedule: TimeSchedule | None = None,
        prompt_prob: float = 0.05,
        loss_on_padding: bool = False,
        vae_weight: float = 1.0,
        flow_weight: float = 1.0,
        reference_weight: float = 0.01,
        entropy_weight: float = 0.001,
        mask_weight: float = 1.0,
        mask_prob: float = 0.3,
    ) -> None:
        super().__init__(time_schedule, prompt_prob, loss_on_padding)
        self.vae_weight, self.flow_weight, self.reference_weight = vae_weight, flow_weight, reference_weight
        self.entropy_weight, self.mask_weight, self.mask_prob = entropy_weight, mask_weight, mask_prob
        weights = {name: value for name, value in vars(self).items() if name.endswith("_weight")}
        refuse_vae_weights(mask_prob, **weights)

    def build(self, codec: Codec) -> None:
        if not isinstance(codec, TextVAE) or not codec.trainable:
            raise ValueError(
                f"ColaJoint trains a TextVAE with the prior, but the codec {type(codec).__name__} is frozen or another;"
                " give model.codec a TextVAE with trainable: true, or take ColaObjective"
            )
        self.reference = deepcopy(codec.encoder).requires_grad_(False)

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        assert isinstance(codec, TextVAE), "build has checked it"
        read = reconstruct(codec, batch, self.mask_prob if self.mask_weight else 0.0)
        with torch.no_grad():
            reference = codec.posterior(batch.ids, encoder_mask(batch), encoder=self.reference)
        valid, x = codec.latent_mask(batch.mask), read.z
        if batch.prompt_mask is not None and batch.dropped is not None:
            x = zero_prompt(x, codec.latent_mask(batch.prompt_mask), batch.dropped)
        losses = self.losses_of(net, codec, path, batch, x)
        parts = read.losses | {
            "negative_entropy": read.q.negative_entropy()[valid].mean(),
            "flow": losses["loss"],
            "reference_kl": read.q.kl_to(reference)[valid].mean(),
        }
        total = sum((weight * parts[name] for name, weight in self.weights().items() if name in parts), x.new_zeros(()))
        values = parts | {"accuracy": read.accuracy, "log_snr": read.q.log_snr(valid)}
        return losses | {name: value.detach() for name, value in values.items()} | {"loss": total}

    def weights(self) -> dict[str, float]:
        """Weight of each part of the loss, by its name in the log."""
        return {
            "nll": self.vae_weight,
            "negative_entropy": self.vae_weight * self.entropy_weight,
            "hidden_nll": self.vae_weight * self.mask_weight,
            "flow": self.flow_weight,
            "reference_kl": self.reference_weight,
        }


def clean_times(t: Times, clean: PositionMask, t_max: float) -> Times:
    """A row's time [B] or its positions' [B, S] -> times [B, S], t_max on clean latents."""
    times = t if t.ndim == 2 else t[:, None].expand(clean.shape)
    return times.masked_fill(clean, t_max)
