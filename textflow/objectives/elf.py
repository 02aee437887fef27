"""The objective of ELF (2605.10938): flow matching and decoding in one pass, guidance learned from the model itself."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch, latent_batch
from textflow.nets.base import DecodingDenoiser, Denoiser
from textflow.objectives.base import Objective, RowCounts, combine_losses
from textflow.objectives.row_indices import RowIndices, assign_rows, row_indices, select_tokens
from textflow.objectives.self_conditioning import NoisyText, SelfConditioning, require_row_times, self_condition
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.logit_normal import LogitNormal
from textflow.types import Batch, Conditioning, Latents, RowMask, Times


class ELFDraws(NamedTuple):
    """Random numbers of one training step.

    Args:
        t: times of the denoising rows [B].
        eps: noise of the denoising rows, standard normal [B, S, d].
        decode: True on rows that learn to decode [B].
        clean_fraction: weight of the clean latent in a decoding row, a position [B, S].
        decode_eps: noise of the decoding rows, standard normal [B, S, d].
        self_cond: True on rows that are conditioned on their own prediction [B].
        guidance: self-conditioning guidance scale [B].
    """

    t: Times
    eps: Latents
    decode: RowMask
    clean_fraction: Float[Tensor, "B S"]
    decode_eps: Latents
    self_cond: RowMask
    guidance: Times


class ELFObjective(Objective):
    """Denoising rows regress the guided velocity, decoding rows the tokens; one token mean over both (ELF, sec. 3).

    Args:
        time_schedule: law of the times of denoising rows.
        decode_prob: probability that a row learns to decode.
        decode_time_schedule: law of the clean fraction in a decoding row, a position.
        decode_noise_scale: standard deviation of a decoding row's noise at clean fraction 0.
        self_cond_prob: probability that a denoising row is self-conditioned.
        guidance_min: smallest self-conditioning guidance scale.
        guidance_max: largest self-conditioning guidance scale.
        loss_space: what is squared: the error of the velocity, `v` (ELF), or of the clean prediction, `x0` [ours],
            where the last times, which ask for little, do not outweigh the others.
        row_assignment: `bernoulli` draws each row's kind; `stratified` takes the whole number of rows nearest to the
            expected one each time, so that all shapes are known beforehand: no step waits for a GPU, but padding is
            computed and thrown away. Batches of at least 10 rows or so are near it; one too small is refused in
            training.
        head_loss_weight: weight of the cross-entropy of a commitment head, >= 0.
        loss_on_padding: whether padding counts in the loss, so that an answer to a prompt learns to end (ELF,
            conditional tasks).
        self_conditioning: times of the predictions that rows are conditioned on; a row has one time.
    """

    def __init__(
        self,
        time_schedule: TimeSchedule | None = None,
        decode_prob: float = 0.2,
        decode_time_schedule: TimeSchedule | None = None,
        decode_noise_scale: float = 5.0,
        self_cond_prob: float = 0.5,
        guidance_min: float = 0.5,
        guidance_max: float = 5.0,
        loss_space: Literal["v", "x0"] = "v",
        row_assignment: Literal["bernoulli", "stratified"] = "bernoulli",
        head_loss_weight: float = 0.1,
        loss_on_padding: bool = False,
        self_conditioning: SelfConditioning = SelfConditioning(),
    ) -> None:
        super().__init__()
        require_row_times(self_conditioning, type(self).__name__)
        self.time_schedule = time_schedule or LogitNormal(-1.5, 0.8)
        self.decode_time_schedule = decode_time_schedule or LogitNormal(0.8, 0.8)
        self.decode_prob, self.self_cond_prob = decode_prob, self_cond_prob
        self.decode_noise_scale, self.head_loss_weight = decode_noise_scale, head_loss_weight
        self.guidance_min, self.guidance_max = guidance_min, guidance_max
        self.loss_space, self.row_assignment, self.loss_on_padding = loss_space, row_assignment, loss_on_padding
        self.self_conditioning = self_conditioning

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        if not isinstance(net, DecodingDenoiser):
            raise ValueError(
                f"ELFObjective trains a net with a decode mode (such as ELF); {type(net).__name__} has none"
            )
        x = encode_batch(codec, batch)
        if x.shape[:2] == batch.ids.shape:
            return self.loss(net, path, x, batch, self.sample_draws(x))
        if self.decode_prob or net.commitment_head is not None or batch.prompt_mask is not None:
            raise ValueError(
                f"the codec {type(codec).__name__} has {x.shape[1]} latents for {batch.ids.shape[1]} tokens, so the net"
                " cannot decode them one by one: set objective.decode_prob to 0, leave out commitment_head and "
                "prompts, and use the readout FromCodec"
            )
        return self.loss(net, path, x, latent_batch(codec, batch), self.sample_draws(x))

    def sample_draws(self, x: Latents) -> ELFDraws:  # type: ignore[override]
        rows, device, counts = len(x), x.device, self.row_counts(len(x))
        decode = assign_rows(self.decode_prob, x.new_ones(rows, dtype=torch.bool), counts and counts.decode)
        return ELFDraws(
            t=self.time_schedule.sample(rows, device=device),
            eps=torch.randn_like(x),
            decode=decode,
            clean_fraction=self.decode_time_schedule.sample(*x.shape[:2], device=device),
            decode_eps=torch.randn_like(x),
            self_cond=assign_rows(self.self_cond_prob, ~decode, counts and counts.self_cond),
            guidance=self.sample_guidance(torch.rand(rows, device=device)),
        )

    def sample_guidance(self, uniform: Times) -> Times:
        """w = (1 + w_min) ((1 + w_max) / (1 + w_min))^u - 1: log-uniform in 1 + w."""
        ratio = (1 + self.guidance_max) / (1 + self.guidance_min)
        return (1 + self.guidance_min) * torch.exp(uniform * math.log(ratio)) - 1

    def row_counts(self, rows: int) -> RowCounts | None:
        if self.row_assignment == "bernoulli":
            return None
        decode = round(self.decode_prob * rows)
        counts = RowCounts(decode, round(self.self_cond_prob * (rows - decode)))
        expected = self.decode_prob, self.self_cond_prob * (1 - self.decode_prob)
        if self.training and any(fraction and not count for fraction, count in zip(expected, counts, strict=True)):
            raise ValueError(
                f"row_assignment: stratified takes {counts.decode} decoding and {counts.self_cond} self-conditioned of"
                f" {rows} rows (decode_prob {self.decode_prob}, self_cond_prob {self.self_cond_prob}), so a part of "
                "the net would learn nothing; give a larger --data.batch_size or row_assignment: bernoulli"
            )
        return counts

    def loss(
        self, net: DecodingDenoiser, path: ProbPath, x: Latents, batch: Batch, draws: ELFDraws
    ) -> dict[str, Tensor]:
        """The losses for given draws, at the least work that gives the published gradient.

        Only self-conditioned rows take the pass without gradient; the conditional prediction in the guided target is
        the gradient pass's own, detached, since both have the same inputs; logits exist for valid tokens of decoding
        rows. The velocity is affine in the prediction, so the guidance can be added to the clean target. A prompt is
        clean in z and in the self-condition of denoising rows, and has no loss; decoding rows, which have no
        self-condition, meet it as noisy as the rest.
        """
        t, w, decode = draws.t, draws.guidance, draws.decode
        prompt = None if batch.prompt_mask is None else x
        cond = Conditioning(guidance=w, prompt=prompt, prompt_mask=batch.prompt_mask)
        valid = batch.loss_mask(self.loss_on_padding)
        counts, denoise = self.row_counts(len(x)), ~decode
        denoise_idx = row_indices(denoise, counts and len(x) - counts.decode)
        decode_idx = row_indices(decode, counts and counts.decode)
        self_cond_pos = row_indices(draws.self_cond[denoise_idx], counts and counts.self_cond)  # among denoising rows
        self_cond_idx = denoise_idx[self_cond_pos]
        text = NoisyText(path, x, draws.eps, cond)
        z_earlier, earlier = self.self_conditioning.prediction_state(text, z := text.at(t), t)
        self_cond, x0_uncond = self_condition(net.predict_clean, z_earlier, earlier, cond, self_cond_idx)
        if z_earlier is not z:  # the guided target compares predictions at t
            _, x0_uncond = self_condition(net.predict_clean, z, t, cond, self_cond_idx)
        self_cond = self_cond.masked_fill(decode[:, None, None], 0.0)
        z_in = torch.where(denoise[:, None, None], z, decode_input(x, draws, self.decode_noise_scale))
        hidden = net.forward_hidden(z_in, torch.where(denoise, t, 1.0), cond._replace(self_cond=self_cond), decode)
        x0, x0_target = net.predict_x0(hidden[denoise_idx]), x[denoise_idx]
        with torch.no_grad():
            x0_cond = x0[self_cond_pos]
            if not net.is_deterministic:
                row_cond = cond.rows(self_cond_idx)._replace(self_cond=x0_uncond)
                x0_cond = net.predict_clean(z[self_cond_idx], t[self_cond_idx], row_cond)
            x0_target[self_cond_pos] += (1 - 1 / w[self_cond_idx])[:, None, None] * (x0_cond - x0_uncond)

        error = x0 - x0_target
        if self.loss_space == "v":
            z, t = z[denoise_idx], t[denoise_idx]
            error = path.velocity(z, x0, t) - path.velocity(z, x0_target, t)
        squared = ((error**2).mean(-1) * valid[denoise_idx]).sum()
        fixed_shape, head_nll = counts is not None, None
        nll = net.decode_nll(*select_tokens(hidden[decode_idx], batch.ids[decode_idx], valid[decode_idx], fixed_shape))
        if net.commitment_head is not None:
            tokens = select_tokens(hidden[denoise_idx], batch.ids[denoise_idx], valid[denoise_idx], fixed_shape)
            head_nll = net.commitment_nll(*tokens)
        return combine_losses(squared, nll, valid, decode, head_nll, self.head_loss_weight)


def decode_input(
    x: Latents, draws: ELFDraws, noise_scale: float, rows: RowIndices | slice = slice(None)
) -> Float[Tensor, "rows S d"]:
    """p x + (1 - p) noise_scale eps of some rows, p the clean fraction of each position (ELF, sec. 3)."""
    p = draws.clean_fraction[rows, :, None]  # [B, S] -> [n, S, 1]
    return p * x[rows] + (1 - p) * noise_scale * draws.decode_eps[rows]
